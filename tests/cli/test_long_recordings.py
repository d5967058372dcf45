"""From recordings to manifests that are a corpus: vad.py, segment_recordings.py and pseudo_label.py, with random weights."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data import prepare_corpus, read_cuts, write_cuts
from asr.data.segments import part_of
from tests.cli.test_decode import RATE, root, trained  # noqa: F401  fixtures
from tests.data.corpora import corpus_config
from tests.data.test_programs import program_of


@pytest.fixture
def recording(root: Path) -> Path:  # noqa: F811
    """Two seconds, one of silence, one and a half, on two channels of which the second is silent."""
    rng = np.random.default_rng(5)
    parts = [(2.0, 0.1), (1.0, 0.0001), (1.5, 0.1)]
    samples = np.concatenate([level * rng.normal(size=int(seconds * RATE)) for seconds, level in parts])
    soundfile.write(root / "talk.wav", np.stack([samples, 0 * samples], axis=1), RATE)
    return root / "talk.wav"


def run(name: str, *arguments: str) -> int:
    return program_of(name, [*arguments])


def vad(*arguments: str) -> list:
    assert run("vad", "--audio", "talk.wav", "--output", "data/manifests/talk.jsonl.gz", "--sample-rate", str(RATE), *arguments) == 0
    return read_cuts(Path("data/manifests/talk.jsonl.gz"))


def test_vad(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = vad("--padding", "0")
    assert (first.start, first.end, second.start, second.end) == pytest.approx((0.0, 2.0, 3.0, 4.5), abs=0.05)
    assert first.supervisions[0].text == "" and first.channel == 0
    assert second.load_audio().shape == (1, second.num_samples)
    assert all(part.sampling_rate == 16000 and part.load_audio().shape[1] == part.num_samples for part in vad("--sample-rate", "16000"))
    assert run("vad", "--audio", "config.yaml", "--output", "x.jsonl.gz") == 2
    assert "no audio files" in capsys.readouterr().err


def test_pseudo_labels_are_a_corpus(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = vad()
    label = ["pseudo_label", "--exp-dir", "exp", "--device", "cpu", "--split", "talk", "--searches", "greedy", "ctc", "--min-rate", "0",
             "--max-rate", "1000", "--max-repeats", "1000", "--max-disagreement", "1"]
    assert run(*label, "--min-confidence", "0", "--output", "pseudo/talk.jsonl.gz") == 0
    cuts = read_cuts(Path("pseudo/talk.jsonl.gz"))
    texts = {json.loads(line)["id"]: json.loads(line)["hyp"] for line in Path("exp/decode/talk/greedy.jsonl").read_text().splitlines()[1:]}
    assert [(cut.id, cut.start, cut.supervisions[0].text) for cut in cuts] == [(p.id, p.start, texts[p.id]) for p in parts if texts[p.id]]
    assert all(0 <= cut.supervisions[0].custom["confidence"] <= 1 for cut in cuts)
    split = {"from": "talk", "where": {"confidence": {"min": 0.0}}}
    prepare_corpus(corpus_config(source={"type": "manifests"}, splits={"train": split}, sample_rate=RATE), Path("pseudo"), Path("prepared"))
    assert [cut.id for cut in read_cuts(Path("prepared/train.jsonl.gz"))] == [cut.id for cut in cuts]

    capsys.readouterr()
    assert run(*label, "--min-confidence", "1", "--output", "none/talk.jsonl.gz") == 2
    assert "no utterance is left" in capsys.readouterr().err
    reasons = [json.loads(line)["reason"] for line in Path("none/talk.dropped.jsonl").read_text().splitlines()]
    assert len(reasons) == len(parts) and all(reason.startswith(("low confidence", "nothing recognised")) for reason in reasons)


def test_segments(recording: Path) -> None:
    vad()
    whole = read_cuts(Path("data/manifests/talk.jsonl.gz"))[0]
    whole = part_of(whole, -whole.start, whole.recording.duration - whole.start, "yes no yes no", age=7)
    write_cuts(Path("whole.jsonl.gz"), [whole])
    segment = ["segment_recordings", "--exp-dir", "exp", "--device", "cpu", "--input", "whole.jsonl.gz", "--output", "segments/a.jsonl.gz"]
    assert run(*segment, "--min-confidence", "0", "--min-duration", "0", "--max-duration", "1") == 0
    cuts = read_cuts(Path("segments/a.jsonl.gz"))
    assert " ".join(cut.supervisions[0].text for cut in cuts) == "yes no yes no"
    assert all(one.end <= two.start + 1e-6 for one, two in zip(cuts, cuts[1:]))
    assert all(cut.supervisions[0].custom.keys() == {"age", "confidence"} and cut.load_audio().shape[1] > 0 for cut in cuts)

    write_cuts(Path("whole.jsonl.gz"), [part_of(whole, 0.0, whole.duration, "yes maybe")])
    assert run(*segment, "--min-confidence", "0") == 2
    assert "unknown characters: m a b" in Path("segments/a.dropped.jsonl").read_text()
