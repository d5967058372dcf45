from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.config import validate
from asr.data.synthesis import SynthesisConfig, corpus, espeak, synthesise
from asr.data.synthesis.grammar import COMMANDS, NUMBERS, NUMBERS_ONLY, ORDINALS, SLOT, WORDS, build_grammar, normalise

ROOT = Path(__file__).resolve().parents[2]
TINY = SynthesisConfig(utterances=24, dev_utterances=6, test_utterances=6, speakers=6, lm_sentences=200)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("numbers") / "corpus"
    synthesise(TINY, directory, jobs=2)
    return directory


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def wavs_under(directory: Path) -> int:
    """Number of wav files; os.walk forgives directories that a running process renames meanwhile, rglob does not."""
    return sum(name.endswith(".wav") for _, _, names in os.walk(directory) for name in names)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_tables_and_audio_agree(tiny: Path) -> None:
    rows = table(tiny / "transcripts.tsv")
    assert {split: sum(row["split"] == split for row in rows) for split in corpus.SPLITS} == {"train": 24, "dev": 6, "test": 6}
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["audio"] for row in rows} == {str(p.relative_to(tiny)) for p in tiny.rglob("*.wav")}
    speakers = {row["speaker"]: row for row in table(tiny / "speakers.tsv")}
    for row in rows:
        info = soundfile.info(tiny / row["audio"])
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 0.2 < info.duration < 8
        assert re.fullmatch(r"[a-z]+( [a-z]+)*", row["text"])
        assert speakers[row["speaker"]]["split"] == row["split"]
    assert len((tiny / "lm_text.txt").read_text().splitlines()) == 200
    assert "| test | 6 |" in (tiny / "README.md").read_text()


def test_no_variant_speaks_in_two_splits(tiny: Path) -> None:
    splits_of: dict[str, set[str]] = {}
    for row in table(tiny / "speakers.tsv"):
        splits_of.setdefault(row["variant"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_many_speakers_share_variants_within_their_split_only() -> None:
    config = SynthesisConfig(speakers=300)
    speakers = corpus.draw_speakers(config, corpus.Language("en", ("en", "en-US")))
    variants = {split: {s.variant for s in speakers if s.split == split} for split in corpus.SPLITS}
    assert len(speakers) == 300 and len({s.speaker for s in speakers}) == 300
    assert not variants["train"] & variants["dev"] and not variants["train"] & variants["test"] and not variants["dev"] & variants["test"]


def test_one_job_writes_the_bytes_of_two(tiny: Path, tmp_path: Path) -> None:
    synthesise(TINY, tmp_path / "again", jobs=1)
    assert contents(tmp_path / "again") == contents(tiny)


def test_another_seed_writes_other_texts_and_sounds(tiny: Path, tmp_path: Path) -> None:
    synthesise(TINY.model_copy(update={"seed": 1}), tmp_path / "other")
    here, there = contents(tiny), contents(tmp_path / "other")
    assert here["transcripts.tsv"] != there["transcripts.tsv"]
    assert not {v for k, v in here.items() if k.endswith(".wav")} & {v for k, v in there.items() if k.endswith(".wav")}


def test_killed_and_interrupted_runs_are_completed_to_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "local" / "synthesise_corpus.py"), "--out", str(tmp_path / "corpus"), "--utterances", "240",
               "--dev-utterances", "8", "--test-utterances", "8", "--speakers", "30", "--lm-sentences", "10", "--jobs", "1"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    for how, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        written = wavs_under(tmp_path)
        while process.poll() is None and wavs_under(tmp_path) < written + 5:
            time.sleep(0.01)
        process.send_signal(how)
        _, errors = process.communicate()
        assert process.returncode == status, errors
        assert not (tmp_path / "corpus" / "transcripts.tsv").exists()
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "corpus" / "audio").glob("[!.]*/*.wav")}
    config = SynthesisConfig(utterances=240, dev_utterances=8, test_utterances=8, speakers=30, lm_sentences=10)
    synthesise(config, tmp_path / "corpus", jobs=2)
    assert kept and all(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items())
    synthesise(config, tmp_path / "whole", jobs=2)
    assert contents(tmp_path / "corpus") == contents(tmp_path / "whole")


def test_a_disk_that_takes_no_more_is_reported_and_loses_nothing(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "local" / "synthesise_corpus.py"), "--out", str(tmp_path / "corpus"), "--utterances", "24",
               "--dev-utterances", "6", "--test-utterances", "6", "--speakers", "6", "--lm-sentences", "200", "--jobs", "1"]
    limited = subprocess.run(["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command],
                             env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert limited.returncode == 1 and "File too large; what was finished is kept" in limited.stderr, limited.stderr
    assert "Traceback" not in limited.stderr
    synthesise(TINY, tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == contents(tiny)


def test_a_finished_corpus_is_left_alone(tiny: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny.rglob("*")}
    synthesise(TINY, tiny)
    assert {p: p.stat().st_mtime_ns for p in tiny.rglob("*")} == before


def test_a_directory_of_something_else_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made with seed 0 instead of 5"):
        synthesise(TINY.model_copy(update={"seed": 5}), tiny)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty and not a corpus"):
        synthesise(TINY, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("lang", "lacking"), [("frr", "neither"), ("ce", "eSpeak NG does not know"), ("eu", "num2words does not know")])
def test_unknown_languages_are_answered_with_near_ones(lang: str, lacking: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{lacking}.*Both know: am ar ") as caught:
        synthesise(TINY.model_copy(update={"lang": lang}), tmp_path / "corpus")
    assert lang != "frr" or "did you mean fr" in str(caught.value)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(("lang", "code", "voice"), [
    ("en", "en", "en-US"), ("en-us", "en", "en-US"), ("pt_BR", "pt_BR", "pt-BR"), ("pt", "pt", "pt"), ("no", "no", "nb"),
    ("es_CO", "es_CO", "es-419"),
])
def test_languages_are_found_by_either_name(lang: str, code: str, voice: str) -> None:
    found = corpus.find_language(lang)
    assert found.num2words == code and voice in found.voices
    assert not any("Shaw" in name for name in found.voices)


@pytest.mark.parametrize("lang", ["de", "ru"])
def test_another_language_says_numbers_only(lang: str, tmp_path: Path) -> None:
    config = SynthesisConfig(lang=lang, utterances=6, dev_utterances=2, test_utterances=2, speakers=3, lm_sentences=5)
    synthesise(config, tmp_path / lang)
    texts = [row["text"] for row in table(tmp_path / lang / "transcripts.tsv")]
    assert texts == [normalise(text) for text in texts] and not re.search(r"[\d-]", " ".join(texts))


def test_every_slot_has_fillers_and_every_filler_a_slot() -> None:
    tables = {**NUMBERS, **ORDINALS, **WORDS}
    used = {name for templates in (COMMANDS, NUMBERS_ONLY) for _, template in templates for name in SLOT.findall(template)}
    assert used - {"emergency"} <= tables.keys() and used == tables.keys()
    assert all(len(set(fillers)) == len(fillers) for fillers in tables.values())


def test_numbers_that_sound_alike_are_told_apart_by_context() -> None:
    grammar, rng = build_grammar("en"), random.Random(0)
    sentences = [grammar.sentence(rng) for _ in range(20000)]
    times = {phrase: sum(phrase in sentence for sentence in sentences) for phrase in
             ("fifteen minutes", "fifty minutes", "fifteen percent", "fifty percent")}
    assert times["fifteen minutes"] > 5 * times["fifty minutes"] and times["fifty percent"] > 5 * times["fifteen percent"]


def test_dev_and_test_are_not_learnt_by_heart() -> None:
    config = SynthesisConfig(lm_sentences=5000)
    texts = corpus.draw_texts(config, build_grammar("en"))
    train, lm = set(texts.splits["train"]), set(texts.lm)
    for split in ("dev", "test"):
        assert not train & set(texts.splits[split]) and not lm & set(texts.splits[split])
        words = [word for text in texts.splits[split] for word in text.split()]
        known = {word for text in train for word in text.split()}
        assert sum(word not in known for word in words) < 0.005 * len(words)
    assert texts.seen("test", texts.splits["test"]) == "100.0%"


@pytest.mark.parametrize("snr", [10.0, 30.0])
def test_noise_has_the_asked_level(snr: float) -> None:
    speech = np.random.default_rng(9).uniform(-1, 1, 32000)
    for seed in range(4):  # white and pink
        noisy = corpus.add_channel(speech, np.random.default_rng(seed), (snr, snr))
        assert 10 ** (-20 / 20) - 1e-9 <= np.abs(noisy).max() <= 10 ** (-2 / 20) + 1e-9
        start = int(np.argmax(np.correlate(noisy, speech[:2000], "valid")))
        said = noisy[start : start + len(speech)]
        gain = said @ speech / (speech @ speech)
        measured = 10 * np.log10(np.mean((gain * speech) ** 2) / np.mean((said - gain * speech) ** 2))
        assert measured == pytest.approx(snr, abs=0.5)


def test_what_is_said_first_in_a_process_does_not_depend_on_this_one() -> None:
    task = ("seven", "en-US", "f1")
    alone = next(espeak.in_fresh_processes(_say, [task]))
    again = list(espeak.in_fresh_processes(_say, [("nine", "en-US", "m3"), task, task], jobs=2))
    assert sum(speech == alone for speech in again) == 2


def _say(text: str, voice: str, variant: str) -> bytes:
    return espeak.say(text, voice, variant, pitch=50, rate=170, seed=1).tobytes()


def test_errors_of_a_process_are_raised_here() -> None:
    with pytest.raises(ValueError, match="no voice 'xx' with variant 'f1'"):
        list(espeak.in_fresh_processes(_say, [("seven", "xx", "f1")]))
    with pytest.raises(RuntimeError, match="ended with status 3"):
        list(espeak.in_fresh_processes(_die, [(3,)]))


def _die(status: int) -> None:
    import os

    os._exit(status)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="speakers"):
        validate(SynthesisConfig, {"speakers": 2}, where="options")
