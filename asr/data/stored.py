"""Stage 2: features computed once, in shards, so that an interrupted run goes on where it was.

    <dir>/<split>.jsonl.gz              all cuts with their features; its presence means that everything is there
    <dir>/<split>/<shard>.f16           the matrices (asr/data/archive.py); .units where they are units
    <dir>/<split>/<shard>.jsonl.gz      the shard's cuts; its presence means that the shard is whole
    <dir>/<split>/<shard>.key           what it was made from
"""
from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple

from torch import Tensor

from asr.data.loader import EXTRACTOR, waveform
from asr.data.manifests import json_lines, parse_cut, write_lines
from asr.data.processes import run_tasks
from asr.data.threads import read_ahead
from asr.features import AnyFeatures, Fbank, Units, open_features
from asr.files import atomic_path, atomic_write, fingerprint

if TYPE_CHECKING:
    from asr.data.archive import Float16Writer

log = logging.getLogger(__name__)

SHARD_SECONDS = 1800.0
"""Audio per shard: what an interruption costs at most, per job."""


@dataclass(frozen=True)
class Shard:
    """Its number, from 0; that of its first cut's line in the manifest ``cuts_path``, from 1; the lines, parsed."""

    directory: Path
    number: int
    cuts_path: Path
    first: int
    lines: list[Any] = field(default_factory=list)

    def file(self, suffix: str) -> Path:
        return self.directory / f"{self.number:05d}{suffix}"

    def files(self, config: AnyFeatures) -> list[Path]:
        return [self.file(suffix) for suffix in (_writer(config).suffix, ".jsonl.gz", ".key")]

    def key(self, extract: Fbank | Units) -> str:
        return fingerprint(extract.settings, self.lines)

    def is_done(self, extract: Fbank | Units) -> bool:
        return all(file.exists() for file in self.files(extract.config)) and self.file(".key").read_text() == self.key(extract)


class Spent(NamedTuple):
    """Seconds: of audio; of making its features, by the clock and in CPU time; and of that what the extractor itself took, its own
    forward, from a waveform in memory to a matrix. The rest is for manifests, audio, which is read ahead in a thread, and archives.
    """

    audio: float
    wall: float
    cpu: float
    forward: float
    forward_cpu: float

    def __str__(self) -> str:
        wall, forward = (3600 * seconds / self.audio for seconds in (self.wall, self.forward))
        return (f"{self.audio / 3600:.2f} h of audio; each hour took a process {wall:.2f} s, of which the extractor's own forward "
                f"{forward:.2f} s: overhead {wall / forward - 1:.0%} ({self.cpu / self.forward_cpu - 1:.0%} of CPU time)")


def compute_features(
    cuts_path: Path, output: Path, config: AnyFeatures, *, jobs: int = 2, job: int | None = None, shard_seconds: float = SHARD_SECONDS,
    device: str = "cpu",
) -> None:
    """Computes the features of ``cuts_path`` and writes the manifest ``output``, archives beside it. Finished shards are not done again.

    The result does not depend on ``jobs`` nor on interruptions, and memory not on the number of cuts. Raises ValueError naming the
    utterance where audio cannot be read.
    jobs: processes. job: do only the share of this one of ``jobs`` (from 1), here, and leave the manifest to a call without it.
    device: of an extractor of units, which is in the directory of ``output``; a GPU is used by one process.
    """
    extract = open_features(config, output.parent / EXTRACTOR, device)
    directory = output.parent / output.name.partition(".")[0]
    directory.mkdir(parents=True, exist_ok=True)
    if job is None:
        for leftover in directory.glob(".*part*"):
            leftover.unlink(missing_ok=True)
    count = 0

    def missing() -> Iterator[Shard]:
        nonlocal count
        for shard in _shards(cuts_path, directory, shard_seconds):
            count += 1
            if (job is None or shard.number % jobs == job - 1) and not shard.is_done(extract):
                yield shard

    compute = partial(compute_shard, config=config, extractor=output.parent / EXTRACTOR, device=device)
    processes = 0 if device != "cpu" else jobs if job is None else 1
    times = run_tasks(compute, missing(), lambda shard: len(shard.lines), processes, f"features of {directory.name}")
    if times:
        log.info("%s", Spent(*map(sum, zip(*times))))
    if job is not None:
        return
    shards = [Shard(directory, number, cuts_path, 0) for number in range(count)]
    write_lines(output, (_moved(values, directory.name) for shard in shards for values in json_lines(shard.file(".jsonl.gz"))))
    current = {file for shard in shards for file in shard.files(config)}
    for stale in set(directory.iterdir()) - current:  # of an earlier run with other cuts
        stale.unlink()


def _shards(cuts_path: Path, directory: Path, shard_seconds: float) -> Iterator[Shard]:
    """The cuts in their order, cut into runs of about ``shard_seconds``."""
    shard = Shard(directory, 0, cuts_path, 1)
    room = shard_seconds
    for number, values in enumerate(json_lines(cuts_path), start=1):
        if room <= 0:
            yield shard
            shard = Shard(directory, shard.number + 1, cuts_path, number)
            room = shard_seconds
        shard.lines.append(values)
        room -= values["duration"]
    if shard.lines:
        yield shard


def _writer(config: AnyFeatures) -> "type[Float16Writer]":
    from asr.data.archive import Float16Writer, UnitWriter

    return UnitWriter if config.discrete else Float16Writer


@lru_cache(maxsize=1)
def _opened(config: AnyFeatures, extractor: Path, device: str) -> Fbank | Units:
    """Once in each process: loading a model takes seconds."""
    return open_features(config, extractor, device)


def _moved(values: dict[str, Any], directory: str) -> dict[str, Any]:
    """The line of a shard, for the manifest in the directory above."""
    values["features"]["storage_path"] = f"{directory}/{values['features']['storage_path']}"
    return values


def compute_shard(shard: Shard, config: AnyFeatures, extractor: Path, device: str) -> Spent:
    """Archive first, then its manifest, then the key that says both are whole."""
    extract = _opened(config, extractor, device)
    began = time.perf_counter(), time.process_time()
    forward = forward_cpu = 0.0
    archive, manifest, key_file = shard.files(config)
    key_file.unlink(missing_ok=True)
    described = {"type": extract.kind, "frame_shift": config.frame_shift, "sampling_rate": config.sample_rate, "storage_path": archive.name}
    lines = []

    def read(numbered: tuple[int, Any]) -> tuple[Any, Any, Tensor]:
        number, values = numbered
        cut = parse_cut(json.loads(json.dumps(values)), shard.cuts_path, number)  # which uses up what it parses
        return values, cut, waveform(cut, config.sample_rate)

    with atomic_path(archive) as partial, _writer(config)(partial) as writer:
        for values, cut, samples in read_ahead(read, enumerate(shard.lines, start=shard.first)):
            started = time.perf_counter(), time.thread_time()
            try:
                matrix = extract(samples).numpy()
            except ValueError as error:
                raise ValueError(f"utterance '{cut.id}': {error}; leave it out, by corpus.min_duration if it is too short") from None
            forward += time.perf_counter() - started[0]
            forward_cpu += time.thread_time() - started[1]
            lines.append({**values, "features": {
                **described, "num_frames": matrix.shape[0], "num_features": matrix.shape[1], "start": cut.start, "duration": cut.duration,
                "storage_type": writer.name, "storage_key": writer.write(cut.id, matrix), "recording_id": cut.recording.id,
                "channels": cut.channel,
            }})
    write_lines(manifest, lines)
    with atomic_write(key_file) as file:
        file.write(shard.key(extract))
    return Spent(sum(values["duration"] for values in lines), time.perf_counter() - began[0], time.process_time() - began[1],
                 forward, forward_cpu)
