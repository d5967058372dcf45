"""Stage 2: features computed once, in shards, so that an interrupted run goes on where it was.

    <dir>/<split>.jsonl.gz              all cuts with their features; its presence means that everything is there
    <dir>/<split>/<shard>.f16           the matrices (asr/data/archive.py); .units where they are units
    <dir>/<split>/<shard>.jsonl.gz      the shard's cuts; its presence means that the shard is whole
    <dir>/<split>/<shard>.key           what it was made from
"""
from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.loader import EXTRACTOR, waveform
from asr.data.manifests import read_cuts, write_cuts
from asr.data.processes import run_tasks
from asr.features import AnyFeatures, Fbank, Units, open_features
from asr.files import atomic_path, atomic_write, fingerprint

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

    from asr.data.archive import Float16Writer

log = logging.getLogger(__name__)

SHARD_SECONDS = 1800.0
"""Audio per shard: what an interruption costs at most, per job."""


@dataclass(frozen=True)
class Shard:
    cuts: "list[MonoCut]"
    archive: Path
    manifest: Path
    key_file: Path
    key: str

    def is_done(self) -> bool:
        return self.manifest.exists() and self.archive.exists() and self.key_file.exists() and self.key_file.read_text() == self.key


def compute_features(
    cuts_path: Path, output: Path, config: AnyFeatures, *, jobs: int = 2, shard_seconds: float = SHARD_SECONDS, device: str = "cpu",
) -> None:
    """Computes the features of ``cuts_path`` and writes the manifest ``output``, archives beside it. Finished shards are not done again.

    The result does not depend on ``jobs`` nor on interruptions. Raises ValueError naming the utterance where audio cannot be read.
    device: of an extractor of units, which is in the directory of ``output``; a GPU is used by one process.
    """
    extract = open_features(config, output.parent / EXTRACTOR, device)
    shards = _shards(read_cuts(cuts_path), output, extract, shard_seconds)
    directory = shards[0].archive.parent
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(".*part*"):
        leftover.unlink(missing_ok=True)
    missing = [shard for shard in shards if not shard.is_done()]
    compute = partial(compute_shard, config=config, extractor=output.parent / EXTRACTOR, device=device)
    times = run_tasks(compute, missing, [len(shard.cuts) for shard in missing], jobs if device == "cpu" else 0,
                      f"features of {output.name.partition('.')[0]}")
    if times:
        audio, total, computing = (sum(column) for column in zip(*times))
        log.info("%.2f h of audio, %.0f s per hour on each of %d processes; %.0f %% of them is not the extractor's own", audio / 3600,
                 3600 * total / audio, min(jobs, len(missing)), 100 * (1 - computing / total))
    write_cuts(output, (cut for shard in shards for cut in read_cuts(shard.manifest)))
    current = {path for shard in shards for path in (shard.archive, shard.manifest, shard.key_file)}
    for stale in set(directory.iterdir()) - current:  # of an earlier run with other cuts
        stale.unlink()


def _shards(cuts: "list[MonoCut]", output: Path, extract: Fbank | Units, shard_seconds: float) -> list[Shard]:
    """The cuts in their order, cut into runs of about ``shard_seconds``."""
    directory = output.parent / output.name.partition(".")[0]
    suffix = _writer(extract.config).suffix
    groups: "list[list[MonoCut]]" = []
    room = 0.0
    for cut in cuts:
        if room <= 0:
            groups.append([])
            room = shard_seconds
        groups[-1].append(cut)
        room -= cut.duration
    return [
        Shard(
            group, directory / f"{number:05d}{suffix}", directory / f"{number:05d}.jsonl.gz", directory / f"{number:05d}.key",
            fingerprint(extract.settings, [cut.to_dict() for cut in group]),
        )
        for number, group in enumerate(groups)
    ]


def _writer(config: AnyFeatures) -> "type[Float16Writer]":
    from asr.data.archive import Float16Writer, UnitWriter

    return UnitWriter if config.discrete else Float16Writer


@lru_cache(maxsize=1)
def _opened(config: AnyFeatures, extractor: Path, device: str) -> Fbank | Units:
    """Once in each process: loading a model takes seconds."""
    return open_features(config, extractor, device)


def compute_shard(shard: Shard, config: AnyFeatures, extractor: Path, device: str) -> tuple[float, float, float]:
    """Archive first, then its manifest, then the key that says both are whole.

    Gives seconds: of audio, of computing, and of that what the extractor itself took.
    """
    from lhotse.features import Features

    extract = _opened(config, extractor, device)
    began, computing = time.perf_counter(), 0.0
    shard.key_file.unlink(missing_ok=True)
    with_features = []
    with atomic_path(shard.archive) as partial, _writer(config)(partial) as writer:
        for cut in shard.cuts:
            samples = waveform(cut, config.sample_rate)
            started = time.perf_counter()
            try:
                matrix = extract(samples).numpy()
            except ValueError as error:
                raise ValueError(f"utterance '{cut.id}': {error}; leave it out, by corpus.min_duration if it is too short") from None
            computing += time.perf_counter() - started
            key = writer.write(cut.id, matrix)
            with_features.append(cut.drop_features())
            with_features[-1].features = Features(
                type=extract.kind, num_frames=matrix.shape[0], num_features=matrix.shape[1], frame_shift=config.frame_shift,
                sampling_rate=config.sample_rate, start=cut.start, duration=cut.duration, storage_type=writer.name,
                storage_path=str(shard.archive.resolve()), storage_key=key, recording_id=cut.recording.id, channels=cut.channel,
            )
    write_cuts(shard.manifest, with_features)
    with atomic_write(shard.key_file) as file:
        file.write(shard.key)
    return sum(cut.duration for cut in shard.cuts), time.perf_counter() - began, computing
