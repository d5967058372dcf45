"""asr decode and asr transcribe on a small experiment with random weights."""
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from asr import fsa, hypotheses
from asr.cli.main import main
from asr.config import load_config
from asr.data import write_cuts
from asr.decode.tuning import read_tuned, word_errors
from asr.experiment import ExperimentConfig, build_model
from asr.lang import make_lexicon, write_lang
from asr.lang.graphs import compose_lg, grammar
from asr.lang.operations import compose_ctc
from asr.lm import estimate, write_arpa
from asr.score import calibration
from asr.tokens import load_tokenizer, train_tokenizer
from asr.train.checkpoints import CheckpointConfig, CheckpointStore

TEXTS = ["yes no", "no", "yes yes no", "no no", "yes"]
RATE = 8000

CONFIG = {
    "name": "tiny",
    "corpus": {"source": {"type": "table"}, "splits": {"train": "train", "dev": "dev", "test": "test"}, "sample_rate": RATE},
    "features": {"sample_rate": RATE, "num_mel_bins": 20, "stored": False},
    "tokens": {"type": "char"},
    "model": {
        "encoder": {"type": "conformer", "dim": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 3},
        "predictor": {"type": "stateless", "dim": 16},
        "joiner": {"dim": 16},
        "ctc": {},
    },
    "losses": {"rnnt": {"type": "rnnt"}},
    "decode": {
        "max_duration": 3.0,
        "searches": {
            "greedy": {"type": "greedy"},
            "beam": {
                "type": "modified_beam",
                "scorers": {"lm": {"type": "ngram", "scale": 0.1}, "length": {"type": "length"}},
                "tune": {"scorers.lm.scale": [0.0, 0.5], "scorers.length.scale": [-3.0, 0.0, 1.0]},
            },
            "fast": {"type": "fast_beam", "graph": "LG"},
            "ctc": {"type": "ctc_greedy"},
            "hlg": {"type": "ctc_graph", "tune": {"acoustic_scale": [0.5, 2.0]}},
        },
    },
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A directory with config.yaml, audio/, data/ and exp/ as training leaves them."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    config = load_config(ExperimentConfig, root / "config.yaml")
    for split in ("dev", "test"):
        _corpus(root, split)
    tokenizer = train_tokenizer(config.tokens, TEXTS)
    tokenizer.save(root / "exp" / "tokens")
    lang_dir = root / "data" / "lang_char"
    tokenizer.save(lang_dir)
    lang = write_lang(make_lexicon(config.lang, tokenizer, TEXTS), tokenizer.symbols, lang_dir)
    symbols = tokenizer.symbols
    write_arpa(estimate([[symbols[t] for t in tokenizer.encode(text)] for text in TEXTS], 3, symbols[1:]), lang_dir / "token.arpa")
    g = grammar(estimate([text.split() for text in TEXTS], 2), lang.word_ids)
    lg = compose_lg(lang.fst("L_disambig"), g, tokenizer.vocab_size, len(lang.words) - 1)
    lg.save(lang_dir / "LG.pt")
    compose_ctc(lg, modified=False).save(lang_dir / "HLG.pt")
    save_random_model(root / "exp", config, tokenizer)
    shutil.copy(root / "config.yaml", root / "exp" / "config.yaml")
    return root


def save_random_model(exp: Path, config: ExperimentConfig, tokenizer) -> None:
    torch.manual_seed(2)
    model = build_model(config, tokenizer)
    with torch.no_grad():
        model.joiner.output_linear.weight *= 3
        model.ctc.output_linear.weight *= 3
    tensors = {"model": model.state_dict(), "average": {"count": 0, "sums": {}}}
    CheckpointStore(exp / "checkpoints", CheckpointConfig()).save(tensors, {"position": {"epoch": 1, "step": 1}}, "epoch", 1)


def _corpus(root: Path, split: str) -> None:
    from lhotse import MonoCut, Recording, SupervisionSegment

    rng = np.random.default_rng(len(split))
    cuts = []
    (root / "audio").mkdir(exist_ok=True)
    for index, text in enumerate(TEXTS):
        path = root / "audio" / f"{split}-{index}.wav"
        samples = rng.normal(size=RATE // 2 + 1000 * index) * np.sin(np.arange(RATE // 2 + 1000 * index) / 300)
        soundfile.write(path, 0.1 * samples, RATE)
        recording = Recording.from_file(path)
        supervision = SupervisionSegment(path.stem, recording.id, 0.0, recording.duration, text=text, speaker=f"s{index % 2}")
        cuts.append(MonoCut(path.stem, 0.0, recording.duration, 0, supervisions=[supervision], recording=recording))
    write_cuts(root / "data" / "manifests" / f"{split}.jsonl.gz", cuts)


@pytest.fixture
def root(trained, tmp_path, monkeypatch) -> Path:
    shutil.copytree(trained, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    return tmp_path / "x"


def asr(*arguments: str) -> int:
    return main([*arguments])


def decode(*arguments: str) -> int:
    return asr("decode", "--exp-dir", "exp", "--device", "cpu", *arguments)


def searches() -> list[str]:
    return ["greedy", "beam", *(["fast"] if fsa.available() else []), "ctc", "hlg"]


def test_tune_on_dev_then_decode_test(root, capsys):
    assert decode("--splits", "dev", "--tune") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in CONFIG["decode"]["searches"])
    assert ("skipped: " in table) == (not fsa.available())
    tuned = read_tuned(root / "exp/decode/tuned.json")
    assert set(tuned) == set(searches()) & {"beam", "hlg"}
    points = tuned["beam"].grid
    assert len(points) == 6 and min(p.errors for p in points) < max(p.errors for p in points)
    chosen = next(p for p in points if p.values == tuned["beam"].values)
    assert chosen.errors == min(p.errors for p in points)
    dev = hypotheses.read(root / "exp/decode/dev/beam.jsonl")
    assert word_errors((u.ref, u.hyp) for u in dev.utterances).errors == chosen.errors
    assert dev.header.tuned_on == "dev" and dev.header.scales == chosen.values

    assert decode("--splits", "test") == 0
    assert sorted(p.stem for p in (root / "exp/decode/test").glob("*.jsonl")) == sorted(searches())
    for name in searches():
        result = hypotheses.read(root / f"exp/decode/test/{name}.jsonl")
        assert result.header.complete and result.header.search == name and result.header.split == "test"
        assert result.header.tuned_on == ("dev" if name in tuned else None)
        assert 0 < result.header.encoder_seconds < result.header.seconds
        assert result.header.audio_seconds == pytest.approx(sum(RATE // 2 + 1000 * i for i in range(5)) / RATE)
        assert [(u.id, u.ref, u.speaker) for u in result.utterances] == [(f"test-{i}", t, f"s{i % 2}") for i, t in enumerate(TEXTS)]
        for u in result.utterances:
            assert " ".join(w.text for w in u.words) == u.hyp
            assert all(0 <= w.start <= w.end <= u.duration + 0.1 and 0 <= w.confidence <= 1 for w in u.words)
    settings = hypotheses.read(root / "exp/decode/test/beam.jsonl").header.settings
    assert settings["scorers"]["lm"]["scale"] == tuned["beam"].values["scorers.lm.scale"]


def test_what_is_done_is_kept_until_something_it_depends_on_changes(root):
    assert decode("--splits", "dev", "--searches", "greedy", "ctc") == 0
    greedy, ctc = root / "exp/decode/dev/greedy.jsonl", root / "exp/decode/dev/ctc.jsonl"
    before = greedy.stat().st_mtime_ns, ctc.stat().st_mtime_ns
    assert decode("--splits", "dev", "--searches", "greedy", "ctc") == 0
    assert (greedy.stat().st_mtime_ns, ctc.stat().st_mtime_ns) == before
    assert decode("--splits", "dev", "--searches", "greedy", "ctc", "--set", "decode.searches.greedy.blank_penalty=0.5") == 0
    assert greedy.stat().st_mtime_ns > before[0] and ctc.stat().st_mtime_ns == before[1]
    assert decode("--splits", "dev", "--searches", "ctc", "--set", "model.encoder.context=[1, 1]") == 0
    assert ctc.stat().st_mtime_ns > before[1]


def test_tuning_again_with_nothing_changed_is_kept(root):
    arguments = ["--splits", "dev", "--tune", "--searches", "beam"]
    assert decode(*arguments) == 0
    path = root / "exp/decode/dev/beam.jsonl"
    before = path.stat().st_mtime_ns
    assert decode(*arguments) == 0
    assert path.stat().st_mtime_ns == before
    (root / "exp/decode/tuned.json").unlink()
    assert decode(*arguments) == 0
    assert path.stat().st_mtime_ns > before


@pytest.mark.parametrize("arguments, message", [
    (["--splits", "test", "--searches", "beam"], "search 'beam' has not been tuned"),
    (["--splits", "test", "--tune"], "'test' is a test set"),
    (["--splits", "dev", "test", "--tune"], "name one"),
    (["--splits", "tset"], "'tset' is not a split"),
    (["--splits", "dev", "--searches", "beem"], "'beem' is not one of the config's"),
])
def test_refusals(root, capsys, arguments, message):
    assert decode(*arguments) == 2
    assert message in capsys.readouterr().err


def test_scales_tuned_for_other_settings_are_refused(root, capsys):
    assert decode("--splits", "dev", "--tune", "--searches", "beam") == 0
    assert decode("--splits", "test", "--searches", "beam", "--set", "decode.searches.beam.beam=2") == 2
    assert "tuned for other weights or settings" in capsys.readouterr().err


def test_exceptions_are_marked(root):
    assert decode("--splits", "test", "--searches", "beam", "--untuned") == 0
    header = hypotheses.read(root / "exp/decode/test/beam.jsonl").header
    assert header.tuned_on is None and header.settings["tune"] and not header.scales
    assert decode("--splits", "test", "--searches", "beam", "--tune", "--tune-on-test") == 0
    assert hypotheses.read(root / "exp/decode/test/beam.jsonl").header.tuned_on == "test"


def test_a_model_with_durations(root, capsys):
    values = {**CONFIG, "model": {**CONFIG["model"], "joiner": {"dim": 16, "durations": [0, 1, 2]}}}
    (root / "exp/config.yaml").write_text(yaml.safe_dump(values))
    shutil.rmtree(root / "exp/checkpoints")
    save_random_model(root / "exp", load_config(ExperimentConfig, root / "exp/config.yaml"), load_tokenizer(root / "exp/tokens"))
    assert decode("--splits", "dev", "--tune") == 0
    assert "skipped: fast beam search knows no durations" in capsys.readouterr().out
    assert decode("--splits", "test", "--searches", "greedy", "beam") == 0
    for name in ("greedy", "beam"):
        result = hypotheses.read(root / f"exp/decode/test/{name}.jsonl")
        words = [w for u in result.utterances for w in u.words]
        assert words and all(0 <= w.start < w.end <= 1.5 and 0 <= w.confidence <= 1 for w in words)


def test_an_nbest_list_is_rescored_with_scales_tuned_on_dev(root, capsys):
    searches = {
        "lists": {"type": "modified_beam", "nbest": 3},
        "rescored": {"type": "rescore", "first": {"type": "modified_beam", "beam": 4}, "scorers": {"lm": {"type": "ngram"}},
                     "tune": {"scorers.lm.scale": [0.5, 3.0]}, "nbest": 3},
        "no_lm": {"type": "modified_beam", "scorers": {"lm": {"type": "neural_lm", "lm": "rnn_lm"}}, "tune": {"scorers.lm.scale": [0.5]}},
    }
    values = {**CONFIG, "decode": {"max_duration": 3.0, "searches": searches}}
    (root / "exp/config.yaml").write_text(yaml.safe_dump(values))
    assert decode("--splits", "dev", "--tune") == 0 and decode("--splits", "test") == 0
    assert {p.stem for p in (root / "exp/decode/test").glob("*.jsonl")} == {"lists", "rescored"}
    skipped = "skipped: the language model rnn_lm is not in data/lang_char: 'asr train-lm' trains those of the config's lms"
    assert [line.split("  ", 1)[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("no_lm")] == [skipped] * 2
    tuned = read_tuned(root / "exp/decode/tuned.json")["rescored"]
    assert len(tuned.grid) == 2
    before, after = (hypotheses.read(root / f"exp/decode/test/{name}.jsonl").utterances for name in ("lists", "rescored"))
    scale = tuned.values["scorers.lm.scale"]
    for first, second in zip(before, after):
        assert len(first.nbest) == len(second.nbest) == 3
        for utterance in (first, second):
            best = utterance.nbest[0]
            assert (best.hyp, best.score, best.tokens, best.scores) == (utterance.hyp, utterance.score, utterance.tokens, utterance.scores)
        for candidate in second.nbest:
            assert candidate.score == pytest.approx(candidate.scores["model"] + scale * candidate.scores["lm"], abs=1e-4)


def test_transcribe_reads_any_rate_and_any_channels(root, capsys):
    samples, _ = soundfile.read("audio/dev-3.wav")
    soundfile.write("stereo.wav", np.stack([samples, samples], axis=1), RATE)
    soundfile.write("fast.flac", np.repeat(samples, 2), 2 * RATE)
    command = ["transcribe", "--exp-dir", "exp", "--device", "cpu", "--json"]
    assert asr(*command, "audio/dev-3.wav", "stereo.wav", "fast.flac", "audio/dev-0.wav", "--search", "greedy") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == ["audio/dev-3.wav", "stereo.wav", "fast.flac", "audio/dev-0.wav"]
    assert lines[0]["text"] == lines[1]["text"] and lines[0]["words"] == lines[1]["words"]
    assert decode("--splits", "dev", "--searches", "greedy") == 0
    decoded = {u.id: u for u in hypotheses.read(root / "exp/decode/dev/greedy.jsonl").utterances}
    assert lines[0]["text"] == decoded["dev-3"].hyp and lines[3]["text"] == decoded["dev-0"].hyp
    assert lines[0]["words"] == [vars(word) for word in decoded["dev-3"].words]
    assert "".join(token["text"] for token in lines[0]["tokens"]).replace("▁", " ").split() == lines[0]["text"].split()


def read_ctm(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    found: dict[str, list[tuple[str, float, float]]] = {}
    for line in path.read_text().splitlines():
        id, channel, start, duration, word, confidence = line.split()
        assert channel == "1" and 0 <= float(confidence) <= 1
        found.setdefault(id, []).append((word, float(start), float(duration)))
    return found


@pytest.mark.parametrize("method", ["transducer", "ctc"])
def test_align_the_transcripts_of_a_split(root, method):
    assert asr("align", "--exp-dir", "exp", "--device", "cpu", "--splits", "test", "--method", method) == 0
    words, tokens = (read_ctm(root / f"exp/align/test/{name}.ctm") for name in ("words", "tokens"))
    lines = [json.loads(line) for line in (root / "exp/align/test/alignment.jsonl").read_text().splitlines()]
    tokenizer = load_tokenizer(root / "exp/tokens")
    assert [line["id"] for line in lines] == sorted(words) == [f"test-{i}" for i in range(5)]
    for text, line in zip(TEXTS, lines):
        assert line["text"] == text == " ".join(word for word, *_ in words[line["id"]])
        assert [symbol for symbol, *_ in tokens[line["id"]]] == [tokenizer.symbols[token] for token in tokenizer.encode(text)]
        assert [start for _, start, _ in words[line["id"]]] == pytest.approx([word["start"] for word in line["words"]])
        times = [time for token in line["tokens"] for time in (token["start"], token["end"])]
        assert times == sorted(times) and times[-1] <= line["duration"] + 0.1
        grid = (root / f"exp/align/test/textgrid/{line['id']}.TextGrid").read_text()
        assert grid.count('class = "IntervalTier"') == 2 and all(f'text = "{word}"' in grid for word in text.split())


def test_align_what_a_search_found_or_other_transcripts(root, caplog):
    assert decode("--splits", "test", "--searches", "ctc") == 0
    before = {u.id: u for u in hypotheses.read(root / "exp/decode/test/ctc.jsonl").utterances}
    command = ["align", "--exp-dir", "exp", "--device", "cpu", "--splits", "test"]
    assert asr(*command, "--search", "ctc", "--method", "ctc") == 0
    lines = [json.loads(line) for line in (root / "exp/align/test.ctc/alignment.jsonl").read_text().splitlines()]
    after = {u.id: u for u in hypotheses.read(root / "exp/decode/test/ctc.jsonl").utterances}
    assert lines and all(line["text"] == before[line["id"]].hyp for line in lines)
    for line in lines:
        assert [vars(word) for word in after[line["id"]].words] == line["words"]
    assert {id: (u.hyp, u.score) for id, u in after.items()} == {id: (u.hyp, u.score) for id, u in before.items()}
    Path("other.txt").write_text("test-1 yes\ntest-2 yes maybe\n")
    assert asr(*command, "--text", "other.txt") == 0
    assert list(read_ctm(root / "exp/align/test/words.ctm")) == ["test-1"]
    assert "test-2 is not aligned: its text has unknown parts" in caplog.text
    assert asr(*command, "--text", "absent.txt") == 2


def test_report_has_the_audio_of_the_worst_utterances(root, trained, capsys, caplog):
    assert decode("--splits", "dev", "test", "--searches", "ctc", "greedy") == 0
    command = ["report", "--exp-dir", "exp", "--splits", "test", "--utterances", "2"]
    assert asr(*command) == 0
    assert (root / "exp/decode/test/greedy.html").exists()
    page = (root / "exp/decode/test/ctc.html").read_text()
    assert page.count("<audio") == 2 and all(f"<bdi>{name}</bdi>" in page for name in ("dev", "test", "s0", "s1"))
    (trained / "audio").rename(trained / "elsewhere")  # where the manifest says it is
    try:
        assert asr(*command, "--searches", "ctc") == 0
    finally:
        (trained / "elsewhere").rename(trained / "audio")
    assert "<audio" not in (root / "exp/decode/test/ctc.html").read_text() and "no audio in the report" in caplog.text
    assert asr(*command, "--searches", "cct") == 2
    assert "no results of cct here" in capsys.readouterr().err


def test_transcribe_takes_tuned_scales_and_calibrated_confidences_of_these_weights_only(root, capsys):
    command = ["transcribe", "--exp-dir", "exp", "--device", "cpu", "--json", "--search", "beam", "audio/dev-0.wav", "audio/dev-2.wav"]
    assert asr(*command) == 2
    assert "'beam' has not been tuned: run" in capsys.readouterr().err
    assert decode("--splits", "dev", "--tune", "--searches", "beam") == 0
    capsys.readouterr()
    assert asr(*command) == 0
    decoded = {u.id: u for u in hypotheses.read(root / "exp/decode/dev/beam.jsonl").utterances}
    fitted = calibration.read(root / "exp/decode/calibration.json")["beam"]
    assert fitted.fitted_on == "dev" and fitted.words == sum(len(u.words) for u in decoded.values())
    for line, id in zip(capsys.readouterr().out.splitlines(), ("dev-0", "dev-2")):
        assert json.loads(line)["words"] == [vars(word) for word in calibration.calibrated(decoded[id].words, fitted)]
        assert all(w["confidence"] != word.confidence for w, word in zip(json.loads(line)["words"], decoded[id].words))
    assert asr(*command, "--set", "decode.searches.beam.beam=2") == 2
    assert "tuned for other weights or settings" in capsys.readouterr().err
    assert asr(*command, "--set", "decode.searches.beam.beam=2", "--untuned") == 0


def test_transcribe_names_what_it_cannot_read(root, capsys):
    Path("notes.wav").write_text("this is not audio")
    soundfile.write("empty.wav", np.zeros(0), RATE)
    for name, problem in [("notes.wav", "not readable"), ("absent.wav", "not readable"), ("empty.wav", "no audio")]:
        assert asr("transcribe", "--exp-dir", "exp", "--device", "cpu", "--search", "greedy", name) == 2
        assert f"{name}: {problem}" in capsys.readouterr().err


def test_streaming_and_long_recordings(root, capsys):
    encoder = {**CONFIG["model"]["encoder"], "causal": True, "chunk_sizes": [8], "left_frames": [16]}
    searches = {"greedy": {"type": "greedy", "blank_penalty": 3.0}, "ctc": {"type": "ctc_greedy", "blank_penalty": 3.0}}
    values = {**CONFIG, "model": {**CONFIG["model"], "encoder": encoder}, "decode": {"searches": searches}}
    (root / "exp/config.yaml").write_text(yaml.safe_dump(values))
    chosen = ["--searches", "greedy", "ctc", "--splits", "dev"]
    assert decode(*chosen) == 0
    whole = {name: hypotheses.read(root / f"exp/decode/dev/{name}.jsonl").utterances for name in ("greedy", "ctc")}
    assert decode(*chosen, "--set", "decode.chunk=0.15") == 0
    for name, utterances in whole.items():
        streamed = hypotheses.read(root / f"exp/decode/dev/{name}.jsonl").utterances
        assert [(u.id, u.hyp, u.tokens) for u in streamed] == [(u.id, u.hyp, u.tokens) for u in utterances]
        assert any(u.tokens for u in utterances)
    capsys.readouterr()

    command = ["transcribe", "--exp-dir", "exp", "--device", "cpu", "--search", "greedy", "audio/dev-0.wav", "audio/dev-4.wav"]
    for extra in ([], ["--set", "decode.max_duration=0.3"]):  # the second time, each file is a long one
        assert asr(*command, *extra) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == lines[2:] == [f"audio/{u.id}.wav\t{u.hyp}" for u in whole["greedy"] if u.id in ("dev-0", "dev-4")]


def test_a_chunked_first_pass_is_rescored_by_the_attention_decoder_with_a_scale_tuned_on_dev(root):
    encoder = {**CONFIG["model"]["encoder"], "causal": True, "chunk_sizes": [8], "left_frames": [16]}
    model = {**CONFIG["model"], "encoder": encoder, "attention": {"dim": 16, "layers": 1, "heads": 2, "feedforward": 16}}
    second = {"type": "rescore", "first": {"type": "modified_beam", "blank_penalty": 3.0}, "scorers": {"attention": {"type": "attention"}},
              "tune": {"scorers.attention.scale": [0.3, 1.0]}, "nbest": 3}
    (root / "exp/config.yaml").write_text(yaml.safe_dump({**CONFIG, "model": model, "decode": {"searches": {"u2": second}}}))
    config = load_config(ExperimentConfig, root / "exp/config.yaml")
    save_random_model(root / "exp", config, load_tokenizer(root / "exp/tokens"))
    rows = []
    for extra in ([], ["--set", "decode.chunk=0.15"]):
        assert decode("--splits", "dev", "--tune", *extra) == 0
        rows.append(hypotheses.read(root / "exp/decode/dev/u2.jsonl"))
    scale = read_tuned(root / "exp/decode/tuned.json")["u2"].values["scorers.attention.scale"]
    assert scale in (0.3, 1.0) and rows[1].header.scales == {"scorers.attention.scale": scale}
    for whole, chunked in zip(rows[0].utterances, rows[1].utterances):
        assert [c.tokens for c in whole.nbest] == [c.tokens for c in chunked.nbest] and any(c.tokens for c in whole.nbest)
        for candidate in chunked.nbest:
            assert candidate.score == pytest.approx(candidate.scores["model"] + scale * candidate.scores["attention"], abs=1e-3)
    assert asr("transcribe", "--exp-dir", "exp", "--device", "cpu", "audio/dev-4.wav", "--set", "decode.max_duration=0.3", "--untuned") == 0


def test_only_encoders_that_can_are_streamed(root, capsys):
    assert decode("--splits", "dev", "--searches", "greedy", "--set", "decode.chunk=0.15") == 2
    assert "streaming needs 'causal: true'" in capsys.readouterr().err
    for extra in ([], ["--set", "decode.max_duration=0.3"]):
        assert asr("transcribe", "--exp-dir", "exp", "--device", "cpu", "--search", "greedy", *extra, "audio/dev-4.wav") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second, "less than 30 seconds are not cut"


def test_hot_words_are_part_of_what_a_result_depends_on(root):
    Path("hot.txt").write_text("yes\t20\n")
    searches = "decode.searches={hot: {type: modified_beam, scorers: {hot: {type: hotwords, file: hot.txt}}}}"
    assert decode("--splits", "dev", "--searches", "hot", "--set", searches) == 0
    path = root / "exp/decode/dev/hot.jsonl"
    assert all(u.scores["hot"] > 0 for u in hypotheses.read(path).utterances) and "yes" in path.read_text()
    before = path.stat().st_mtime_ns
    assert decode("--splits", "dev", "--searches", "hot", "--set", searches) == 0
    assert path.stat().st_mtime_ns == before
    Path("hot.txt").write_text("no\t20\n")
    assert decode("--splits", "dev", "--searches", "hot", "--set", searches) == 0
    assert path.stat().st_mtime_ns > before


def without_seconds(path: Path) -> list[dict]:
    return [{key: value for key, value in json.loads(line).items() if "seconds" not in key or key == "audio_seconds"}
            for line in path.read_text().splitlines()]


@pytest.mark.parametrize("arguments", [["--splits", "dev", "--tune"], ["--splits", "test", "--untuned"]])
def test_parts_of_several_jobs_are_what_one_would_have_written(root, capsys, arguments):
    directory = root / "exp/decode" / arguments[1]
    assert decode(*arguments) == 0
    expected = {path.name: without_seconds(path) for path in directory.glob("*.jsonl")}
    tuned = (root / "exp/decode/tuned.json").read_text() if "--tune" in arguments else ""
    shutil.rmtree(root / "exp/decode")

    for job in ("3", "1"):
        assert decode(*arguments, "--job", job, "--jobs", "3") == 0
    assert not list(directory.glob("*.jsonl")) and not (root / "exp/decode/tuned.json").exists()
    times = {path: path.stat().st_mtime_ns for path in directory.rglob("*.1-of-3.jsonl")}
    assert times and decode(*arguments, "--job", "1", "--jobs", "3") == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times, "a part that is there is not done again"
    for job in ("2", "2"):
        assert decode(*arguments, "--job", job, "--jobs", "3") == 0
    (root / "audio").rename(root / "gone")  # what has been decoded is not even loaded
    capsys.readouterr()
    assert decode(*arguments) == 0
    assert "WER" in capsys.readouterr().out
    assert {path.name: without_seconds(path) for path in directory.glob("*.jsonl")} == expected
    assert not tuned or (root / "exp/decode/tuned.json").read_text() == tuned
    assert not list(directory.rglob("*-of-*"))


def test_a_part_that_is_missing_is_decoded_when_joining(root):
    arguments = ["--splits", "dev", "--searches", "greedy"]
    assert decode(*arguments) == 0
    path = root / "exp/decode/dev/greedy.jsonl"
    expected = without_seconds(path)
    path.unlink()
    assert decode(*arguments, "--job", "2", "--jobs", "2") == 0
    assert decode(*arguments) == 0
    assert without_seconds(path) == expected


def test_job_numbers_are_checked(root, capsys):
    assert decode("--splits", "dev", "--job", "3", "--jobs", "2") == 2
    assert "jobs count from 1" in capsys.readouterr().err
