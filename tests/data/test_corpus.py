"""Stage 1 on good and on bad input: everything left out is named, nothing is left out silently, errors say what to do."""
from __future__ import annotations

import gzip
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
import soundfile

from asr.data import CorpusConfig, prepare_corpus, read_cuts, read_dropped
from tests.conftest import ROOT
from tests.data.corpora import corpus_config, table_corpus, write_wav


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return table_corpus(tmp_path / "corpus")


def first(corpus: Path) -> Path:
    return corpus / "wav/s0/u000.wav"


def edit(corpus: Path, old: str, new: str) -> None:
    table = corpus / "transcripts.tsv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


def dropped(corpus: Path, config: CorpusConfig | None = None) -> dict[str, str]:
    """{id: reason}, and that the rest is all there."""
    out = corpus.parent / "manifests"
    prepare_corpus(config or corpus_config(max_dropped=0.2), corpus, out)
    reasons = {item.id: item.reason for item in read_dropped(out / "dropped.jsonl")}
    rows = {line.split("\t")[0] for line in (corpus / "transcripts.tsv").read_text().splitlines()[1:]}
    kept = {cut.id for split in ("train", "test") for cut in read_cuts(out / f"{split}.jsonl.gz")}
    assert kept == rows - {id for id, reason in reasons.items() if not reason.startswith("duplicate")}
    return reasons


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncate_flac(path: Path) -> None:
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples, rate, format="FLAC")
    truncate(path)


def not_numbers(path: Path) -> None:
    soundfile.write(path, np.full(8000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated wav": (truncate, "truncated audio"),
    "truncated flac": (truncate_flac, "unreadable audio"),
    "empty file": (lambda path: path.write_bytes(b""), "empty audio file"),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16000), "zero length"),
    "header only": (lambda path: path.write_bytes(path.read_bytes()[:40]), "audio"),
    "text": (lambda path: path.write_text("this is no audio"), "unreadable audio"),
    "absent": (Path.unlink, "no such audio file"),
    "not numbers": (not_numbers, "samples that are not numbers"),
    "too short": (lambda path: write_wav(path, 0.05), "too short: 0.050 s"),
    "too long": (lambda path: write_wav(path, 31), "too long: 31.000 s"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_audio_is_dropped_by_name(corpus: Path, damage: str) -> None:
    spoil, reason = DAMAGES[damage]
    spoil(first(corpus))
    reasons = dropped(corpus)
    assert list(reasons) == ["u000"] and reason in reasons["u000"]


def test_streamed_wav_is_not_taken_for_truncated(corpus: Path) -> None:
    """Programs that write to a pipe cannot know the length when they write the header."""
    path = first(corpus)
    content = bytearray(path.read_bytes())
    position = content.index(b"data") + 4
    content[position: position + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert dropped(corpus) == {}


def test_bad_transcripts_are_dropped_by_name(corpus: Path) -> None:
    edit(corpus, "u001.wav\tone two", "u001.wav\t ")
    edit(corpus, "u002.wav\tone two three", "u002.wav\t...!")
    reasons = dropped(corpus, corpus_config(max_dropped=0.2, text={"remove": "punctuation"}))
    assert reasons == {"u001": "empty transcript", "u002": "empty transcript"}


def test_second_of_two_with_one_id_is_dropped(corpus: Path) -> None:
    edit(corpus, "u003\t", "u004\t")
    reasons = dropped(corpus)
    assert list(reasons) == ["u004"]
    assert "u004.wav" in reasons["u004"] and "kept 'wav/s0/u003.wav'" in reasons["u004"]


def test_summary_on_screen(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in sorted(corpus.rglob("*.wav"))[:3]:
        path.write_bytes(b"")
    dropped(corpus)
    assert "dropped 3 of 24 utterances" in caplog.text
    assert "3  empty audio file: u000, u001, u002" in caplog.text


def test_wrong_sample_rate_is_an_error_with_the_fix(corpus: Path, tmp_path: Path) -> None:
    write_wav(first(corpus), 1.0, rate=22050)
    with pytest.raises(ValueError, match=r"'wav/s0/u000.wav' has a sample rate of 22050 Hz .*corpus.resample: true"):
        prepare_corpus(corpus_config(), corpus, tmp_path / "manifests")


def test_resampling_when_asked_for(corpus: Path, tmp_path: Path) -> None:
    write_wav(first(corpus), 1.0, rate=22050)
    assert dropped(corpus, corpus_config(resample=True)) == {}
    cut = read_cuts(tmp_path / "manifests/train.jsonl.gz")[0]
    assert (cut.id, cut.sampling_rate, cut.num_samples) == ("u000", 16000, 16000)
    audio = cut.load_audio()[0]
    time = np.arange(16000) / 16000
    assert np.abs(audio - 0.3 * np.sin(2 * np.pi * (200 + 400 * time) * time))[100:-100].max() < 0.01


def test_too_much_dropped_is_an_error(corpus: Path, tmp_path: Path) -> None:
    for path in sorted(corpus.rglob("*.wav"))[:2]:
        truncate(path)
    with pytest.raises(ValueError, match=r"2 of 16 utterances of 'train' \(12.5%\).*--set corpus.max_dropped=0.13"):
        prepare_corpus(corpus_config(), corpus, tmp_path / "manifests")
    assert len(read_dropped(tmp_path / "manifests/dropped.jsonl")) == 2
    assert not (tmp_path / "manifests/train.jsonl.gz").exists()
    prepare_corpus(corpus_config(max_dropped=0.13), corpus, tmp_path / "manifests")


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_no_corpus(tmp_path: Path, state: str) -> None:
    if state == "empty":
        (tmp_path / "corpus").mkdir()
    with pytest.raises(ValueError, match=f"corpus directory is {state}.*--corpus-dir"):
        prepare_corpus(corpus_config(), tmp_path / "corpus", tmp_path / "manifests")


def test_table_without_rows(corpus: Path, tmp_path: Path) -> None:
    (corpus / "transcripts.tsv").write_text("id\taudio\ttext\tspeaker\tsplit\n")
    with pytest.raises(ValueError, match="no split 'train'; it has none"):
        prepare_corpus(corpus_config(), corpus, tmp_path / "manifests")


def test_same_corpus_same_bytes(corpus: Path, tmp_path: Path) -> None:
    splits = {"train": "train", "dev": {"from": "train", "fraction": 0.2}, "test": "test"}
    for out, jobs in (("a", 1), ("b", 3)):
        prepare_corpus(corpus_config(splits=splits), corpus, tmp_path / out, jobs=jobs)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["dev.jsonl.gz", "dropped.jsonl", "test.jsonl.gz", "train.jsonl.gz"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


SLOW_PROGRAM = """
import sys, time
from pathlib import Path
from asr.cli.program import program
from asr.data import checks, prepare_corpus
from tests.conftest import ROOT
from tests.data.corpora import corpus_config

def add_arguments(parser):
    parser.add_argument("directory", type=Path)

def run(args):
    check = checks.audio_fault
    def slowly(recording):
        (args.directory / "started").touch()
        time.sleep(0.5)
        return check(recording)
    checks.audio_fault = slowly
    prepare_corpus(corpus_config(), args.directory / "corpus", args.directory / "manifests")

sys.exit(program(add_arguments, run, None))
"""


def test_interrupt(corpus: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_PROGRAM, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    assert not list((tmp_path / "manifests").glob("*"))


def test_damaged_manifests(corpus: Path, tmp_path: Path) -> None:
    prepare_corpus(corpus_config(), corpus, tmp_path)
    path = tmp_path / "train.jsonl.gz"
    whole = path.read_bytes()
    for content, message in ((whole[:-30], "damaged"), (gzip.compress(b'{"id": 3}\n'), "not a lhotse cut")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_cuts(path)
    with pytest.raises(ValueError, match="no such manifest"):
        read_cuts(tmp_path / "other.jsonl.gz")
