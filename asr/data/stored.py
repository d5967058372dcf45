"""Stage 2: features computed once, in shards, so that an interrupted run goes on where it was.

    <dir>/<split>.jsonl.gz              all cuts with their features; its presence means that everything is there
    <dir>/<split>/<shard>.f16           the matrices (asr/data/archive.py)
    <dir>/<split>/<shard>.jsonl.gz      the shard's cuts; its presence means that the shard is whole
    <dir>/<split>/<shard>.key           what it was made from
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.loader import waveform
from asr.data.manifests import read_cuts, write_cuts
from asr.data.processes import run_tasks
from asr.features import FEATURES, Fbank
from asr.files import atomic_path, atomic_write, fingerprint

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

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


def compute_features(cuts_path: Path, output: Path, config: Fbank.Config, *, jobs: int = 2, shard_seconds: float = SHARD_SECONDS) -> None:
    """Computes the features of ``cuts_path`` and writes the manifest ``output``, archives beside it. Finished shards are not done again.

    The result does not depend on ``jobs`` nor on interruptions. Raises ValueError naming the utterance where audio cannot be read.
    """
    shards = _shards(read_cuts(cuts_path), output, config, shard_seconds)
    directory = shards[0].archive.parent
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(".*part*"):
        leftover.unlink(missing_ok=True)
    missing = [shard for shard in shards if not shard.is_done()]
    run_tasks(partial(compute_shard, config=config), missing, [len(shard.cuts) for shard in missing], jobs,
              f"features of {output.name.partition('.')[0]}")
    write_cuts(output, (cut for shard in shards for cut in read_cuts(shard.manifest)))
    current = {path for shard in shards for path in (shard.archive, shard.manifest, shard.key_file)}
    for stale in set(directory.iterdir()) - current:  # of an earlier run with other cuts
        stale.unlink()


def _shards(cuts: "list[MonoCut]", output: Path, config: Fbank.Config, shard_seconds: float) -> list[Shard]:
    """The cuts in their order, cut into runs of about ``shard_seconds``."""
    directory = output.parent / output.name.partition(".")[0]
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
            group, directory / f"{number:05d}.f16", directory / f"{number:05d}.jsonl.gz", directory / f"{number:05d}.key",
            fingerprint(config.model_dump(mode="json"), [cut.to_dict() for cut in group]),
        )
        for number, group in enumerate(groups)
    ]


def compute_shard(shard: Shard, config: Fbank.Config) -> None:
    """Archive first, then its manifest, then the key that says both are whole."""
    from lhotse.features import Features

    from asr.data.archive import Float16Writer

    extract = FEATURES[config.type](config)
    shard.key_file.unlink(missing_ok=True)
    with_features = []
    with atomic_path(shard.archive) as partial, Float16Writer(partial) as writer:
        for cut in shard.cuts:
            samples = waveform(cut, config.sample_rate)
            try:
                matrix = extract(samples).numpy()
            except ValueError as error:
                raise ValueError(f"utterance '{cut.id}': {error}; raise corpus.min_duration") from None
            key = writer.write(cut.id, matrix)
            with_features.append(cut.drop_features())
            with_features[-1].features = Features(
                type=config.type, num_frames=matrix.shape[0], num_features=matrix.shape[1], frame_shift=config.frame_shift,
                sampling_rate=config.sample_rate, start=cut.start, duration=cut.duration, storage_type=writer.name,
                storage_path=str(shard.archive.resolve()), storage_key=key, recording_id=cut.recording.id, channels=cut.channel,
            )
    write_cuts(shard.manifest, with_features)
    with atomic_write(shard.key_file) as file:
        file.write(shard.key)
