"""Stage 2: the features are those of the audio, and neither a kill nor a full disk ever leaves half a file for a whole one."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.data import compute_features, prepare_corpus, read_cuts
from asr.data.loader import stored_features, waveform
from asr.data.manifests import json_lines, write_cuts
from asr.data.threads import read_ahead
from asr.features import Fbank
from tests.data.corpora import corpus_config, table_corpus

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Fbank.Config(num_mel_bins=40)
SHARD_SECONDS = 3.0

PROGRAM = """
import logging, resource, signal, sys, time
from pathlib import Path
from asr.cli.program import program
from asr.data import compute_features, stored
from asr.features import Fbank

def add_arguments(parser):
    parser.add_argument("cuts", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--slow", type=float, default=0)
    parser.add_argument("--largest-file", type=int)

def run(args):
    if args.largest_file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.largest_file, resource.RLIM_INFINITY))
    read = stored.waveform
    def slowly(cut, rate):
        time.sleep(args.slow)
        return read(cut, rate)
    stored.waveform = slowly
    compute_features(args.cuts, args.output, Fbank.Config(num_mel_bins=40), jobs=2, shard_seconds=3.0)

sys.exit(program(add_arguments, run, None))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``manifests/train.jsonl.gz`` and, computed without interruption, ``whole/train.jsonl.gz``."""
    path = tmp_path_factory.mktemp("stored")
    prepare_corpus(corpus_config(splits={"train": {"from": ["train", "test"]}}), table_corpus(path / "corpus"), path / "manifests")
    compute_features(path / "manifests/train.jsonl.gz", path / "whole/train.jsonl.gz", CONFIG, jobs=1, shard_seconds=SHARD_SECONDS)
    return path


def start(prepared: Path, output: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(prepared / "manifests/train.jsonl.gz"), str(output), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def test_equal_to_the_audio_s_features(prepared: Path) -> None:
    cuts = read_cuts(prepared / "whole/train.jsonl.gz")
    assert [cut.id for cut in cuts] == [cut.id for cut in read_cuts(prepared / "manifests/train.jsonl.gz")]
    extract = Fbank(CONFIG)
    for cut in cuts:
        fresh, stored = extract(waveform(cut, 16000)), stored_features(cut, CONFIG)
        assert stored.dtype == torch.float32 and stored.shape == fresh.shape == (cut.num_frames, 40)
        assert (stored - fresh).abs().max() <= 0.008
        assert np.array_equal(cut.load_features(), stored.numpy())
    matrices = [extract(waveform(cut, 16000)).numpy() for cut in cuts]
    assert b"".join(map(Path.read_bytes, sorted((prepared / "whole/train").glob("*.f16")))) == b"".join(
        matrix.astype("<f2").tobytes() for matrix in matrices
    )
    middle = cuts[0].truncate(offset=0.1, duration=0.2)
    assert np.array_equal(middle.load_features(), cuts[0].load_features()[10:30])
    assert len(list((prepared / "whole/train").glob("*.f16"))) > 3


def test_lines_are_those_of_lhotse_s_cuts(prepared: Path, tmp_path: Path) -> None:
    """Features are added to lines without making cuts of them: what cuts would be written as is the same."""
    for manifest in (prepared / "whole/train.jsonl.gz", *(prepared / "whole/train").glob("*.jsonl.gz")):
        directory = tmp_path / manifest.name
        write_cuts(directory / "again.jsonl.gz", read_cuts(manifest))
        again = list(json_lines(directory / "again.jsonl.gz"))
        for values in again:
            storage = Path(values["features"]["storage_path"])
            values["features"]["storage_path"] = str(storage.relative_to(manifest.parent.resolve()))
        assert again == list(json_lines(manifest))


def test_reading_ahead() -> None:
    done = []

    def read(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        done.append(number)
        return number**2

    assert list(read_ahead(read, range(7), 3)) == [number**2 for number in range(7)]
    done.clear()
    ahead = read_ahead(read, range(100), 3)
    assert [next(ahead) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ValueError, match="seven"):
        list(ahead)
    assert done == list(range(7))


def test_the_directory_may_move(prepared: Path, tmp_path: Path) -> None:
    before = [cut.load_features() for cut in read_cuts(prepared / "whole/train.jsonl.gz")]
    moved = tmp_path / "elsewhere"
    os.rename(prepared / "whole", moved)
    try:
        after = [cut.load_features() for cut in read_cuts(moved / "train.jsonl.gz")]
    finally:
        os.rename(moved, prepared / "whole")
    assert all(np.array_equal(a, b) for a, b in zip(before, after))


def test_relative_paths_give_the_same_bytes(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes call this with --data-dir data."""
    monkeypatch.chdir(tmp_path)
    compute_features(prepared / "manifests/train.jsonl.gz", Path("data/train.jsonl.gz"), CONFIG, jobs=1, shard_seconds=SHARD_SECONDS)
    assert contents(tmp_path / "data") == contents(prepared / "whole")
    assert read_cuts(Path("data/train.jsonl.gz"))[-1].load_features().shape[1] == 40


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_then_run_again(prepared: Path, tmp_path: Path, kill: signal.Signals) -> None:
    output = tmp_path / "interrupted/train.jsonl.gz"
    process = start(prepared, output, "--slow", "0.1")
    shards = output.parent / "train"
    while not list(shards.glob("*.key")):  # in the middle: one shard is finished, two are being written
        assert process.poll() is None
        time.sleep(0.02)
    finished = {path: path.stat().st_mtime_ns for path in shards.glob("*.key")}
    os.killpg(process.pid, kill) if kill == signal.SIGINT else process.kill()
    _, errors = process.communicate(timeout=30)
    if kill == signal.SIGINT:
        assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    deadline = time.monotonic() + 10
    while _alive(process.pid) and time.monotonic() < deadline:  # the workers of a killed program end by themselves
        time.sleep(0.1)
    assert not _alive(process.pid)
    assert not output.exists()
    assert len(list(shards.glob("*.key"))) < len(list((prepared / "whole/train").glob("*.key")))

    again = start(prepared, output)
    assert again.wait(timeout=60) == 0
    assert contents(output.parent) == contents(prepared / "whole")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_full_disk(prepared: Path, tmp_path: Path) -> None:
    """Files cannot grow beyond a limit: what is reported by the system as it is when a disk is full."""
    output = tmp_path / "full/train.jsonl.gz"
    process = start(prepared, output, "--largest-file", "5000")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "run the same command again" in errors and "Traceback" not in errors
    assert [path for path in output.parent.rglob("*") if path.is_file() and not path.name.startswith(".")] == []
    compute_features(prepared / "manifests/train.jsonl.gz", output, CONFIG, jobs=1, shard_seconds=SHARD_SECONDS)
    assert contents(output.parent) == contents(prepared / "whole")


def test_finished_shards_are_kept_and_changed_ones_made_again(prepared: Path, tmp_path: Path) -> None:
    cuts, output = prepared / "manifests/train.jsonl.gz", tmp_path / "train.jsonl.gz"
    compute_features(cuts, output, CONFIG, jobs=2, shard_seconds=SHARD_SECONDS)
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "train").iterdir()}
    (tmp_path / "train/00001.f16").unlink()
    compute_features(cuts, output, CONFIG, jobs=2, shard_seconds=SHARD_SECONDS)
    changed = {path.name for path in (tmp_path / "train").iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert changed == {"00001.f16", "00001.jsonl.gz", "00001.key"}
    compute_features(cuts, output, Fbank.Config(num_mel_bins=23), jobs=2, shard_seconds=100)
    assert {path.name for path in (tmp_path / "train").iterdir()} == {"00000.f16", "00000.jsonl.gz", "00000.key"}
    assert read_cuts(output)[0].load_features().shape[1] == 23


def test_vanished_audio_is_named(prepared: Path, tmp_path: Path) -> None:
    corpus = table_corpus(tmp_path / "corpus", utterances=3, speakers=1)
    prepare_corpus(corpus_config(splits={"train": "train"}), corpus, tmp_path / "manifests")
    (corpus / "wav/s0/u001.wav").unlink()
    with pytest.raises(ValueError, match="utterance 'u001': cannot read .*u001.wav"):
        compute_features(tmp_path / "manifests/train.jsonl.gz", tmp_path / "fbank/train.jsonl.gz", CONFIG, jobs=1)


def test_damaged_archive_is_named(prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "train.jsonl.gz"
    compute_features(prepared / "manifests/train.jsonl.gz", output, CONFIG, jobs=1)
    archive = tmp_path / "train/00000.f16"
    archive.write_bytes(archive.read_bytes()[:-2])
    with pytest.raises(ValueError, match="cannot read its features .*ends within a matrix"):
        stored_features(read_cuts(output)[-1], CONFIG)


def test_an_array_of_jobs_leaves_what_one_process_does(prepared: Path, tmp_path: Path) -> None:
    cuts, output = prepared / "manifests/train.jsonl.gz", tmp_path / "train.jsonl.gz"
    for job in (2, 3):
        compute_features(cuts, output, CONFIG, jobs=3, job=job, shard_seconds=SHARD_SECONDS)
    shards = len(list((prepared / "whole/train").glob("*.key")))
    assert {path.stem for path in (tmp_path / "train").glob("*.key")} == {f"{k:05d}" for k in range(shards) if k % 3 != 0}
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").iterdir()}
    compute_features(cuts, output, CONFIG, jobs=3, job=2, shard_seconds=SHARD_SECONDS)
    compute_features(cuts, output, CONFIG, jobs=3, job=1, shard_seconds=SHARD_SECONDS)
    assert not output.exists()
    compute_features(cuts, output, CONFIG, jobs=2, shard_seconds=SHARD_SECONDS)
    assert contents(tmp_path) == contents(prepared / "whole")
    assert {path: path.stat().st_mtime_ns for path in times} == times
