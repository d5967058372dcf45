"""Memory and time of going through a manifest, by number of utterances. What is measured runs in a process of its own.

    asr bench manifests --utterances 100000 1000000

A manifest of utterances of 5 s, 20 words each, is generated (about 70 bytes each on disk), and a directory of shards without their data.
"""
from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any, Callable, NamedTuple

from asr.bench.timing import resident
from asr.data import BatchConfig, iterate_cuts, iterate_transcripts, read_cuts
from asr.data.manifests import Lines
from asr.data.shar import SharPlan
from asr.data.stored import SHARD_SECONDS, _shards
from asr.features import Fbank

FORK = multiprocessing.get_context("fork")
SHARD = 1000
WORDS = "a quick brown fox jumps over one lazy dog and runs far away from all of those hounds".split()  # noqa: SIM905


class Found(NamedTuple):
    """utterances: seen. memory: bytes by which the process grew at most."""

    utterances: int
    memory: int
    seconds: float


def line(number: int) -> bytes:
    id = f"utt-{number:09d}"
    duration = 2 + number % 97 / 16
    source = {"type": "file", "channels": [0], "source": f"/corpus/audio/{number // 1000:05d}/{id}.flac"}
    recording = {"id": id, "sources": [source], "sampling_rate": 16000, "num_samples": round(duration * 16000), "duration": duration,
                 "channel_ids": [0]}
    text = " ".join(WORDS[(number + k) % len(WORDS)] for k in range(20))
    supervision = {"id": id, "recording_id": id, "start": 0.0, "duration": duration, "channel": 0, "text": text,
                   "speaker": f"s{number % 999}"}
    values = {"id": id, "start": 0.0, "duration": duration, "channel": 0, "supervisions": [supervision], "recording": recording,
              "type": "MonoCut"}
    return json.dumps(values).encode() + b"\n"


def generate(directory: Path, utterances: int) -> None:
    """``train.jsonl.gz``, and ``shar/`` with the same utterances in shards whose archives are empty."""
    (directory / "shar").mkdir(parents=True)
    with gzip.open(directory / "train.jsonl.gz", "wb", compresslevel=1) as manifest:
        for shard, first in enumerate(range(0, utterances, SHARD)):
            lines = b"".join(line(number) for number in range(first, min(first + SHARD, utterances)))
            manifest.write(lines)
            (directory / f"shar/cuts.{shard:06d}.jsonl.gz").write_bytes(gzip.compress(lines, 1))
            (directory / f"shar/features.{shard:06d}.tar").touch()


def transcripts(directory: Path) -> int:
    return sum(1 for _ in iterate_transcripts(directory / "train.jsonl.gz"))


def cuts(directory: Path) -> int:
    return sum(1 for _ in iterate_cuts(directory / "train.jsonl.gz"))


def cuts_in_memory(directory: Path) -> int:
    return len(read_cuts(directory / "train.jsonl.gz"))


def feature_shards(directory: Path) -> int:
    """What stage 2 does beside computing features: the shards, and whether they are done."""
    extract = Fbank(Fbank.Config())
    return sum(len(shard.lines) for shard in _shards(directory / "train.jsonl.gz", directory, SHARD_SECONDS) if not shard.is_done(extract))


def shuffled_lines(directory: Path) -> int:
    """What export_shar.py does beside writing data: the lines in random order."""
    lines = Lines(directory / "train.jsonl.gz")
    order = array("q", range(len(lines)))
    random.Random(0).shuffle(order)
    return sum(len(lines[number]["supervisions"]) for number in order)


def epoch_plan(directory: Path) -> int:
    """What training from shards does before its first batch."""
    config = BatchConfig.model_validate({"shar": {"dir": directory / "shar"}})
    assert config.shar is not None
    assert len(SharPlan(config.shar, config, Fbank.Config(), None, seed=1, epoch=1))
    return len(list((directory / "shar").glob("cuts.*"))) * SHARD


WAYS: dict[str, Callable[[Path], int]] = {
    way.__name__: way for way in (transcripts, cuts, cuts_in_memory, feature_shards, shuffled_lines, epoch_plan)
}


def measure(way: str, directory: Path) -> Found:
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_measure, args=(way, directory, sender))
    process.start()
    sender.close()
    found: Found = receiver.recv()
    process.join()
    return found


def _measure(way: str, directory: Path, sender: Any) -> None:
    before, started = resident("VmRSS"), time.monotonic()
    count = WAYS[way](directory)
    sender.send(Found(count, resident("VmHWM") - before, time.monotonic() - started))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--utterances", type=int, nargs="+", default=[100_000], help="in the manifests (default: 100000)")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where they are generated")


def run(args: argparse.Namespace) -> None:
    print(f"{'utterances':>11} {'way':<16}{'MB':>8}{'bytes each':>12}{'seconds':>9}")
    for utterances in args.utterances:
        directory = Path(tempfile.mkdtemp(dir=args.dir))
        try:
            generate(directory, utterances)
            for way in WAYS:
                if way != "cuts_in_memory" or utterances <= 1_000_000:
                    found = measure(way, directory)
                    each = found.memory / found.utterances
                    print(f"{utterances:>11} {way:<16}{found.memory / 1e6:>8.1f}{each:>12.1f}{found.seconds:>9.1f}", flush=True)
        finally:
            shutil.rmtree(directory)
