"""Writing shards that :mod:`asr.data.shar`, and lhotse itself (``CutSet.from_shar``), read."""
from __future__ import annotations

import os
import random
import shutil
import tempfile
from array import array
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.data.batches import derived_seed
from asr.data.loader import open_units, stored_features
from asr.data.manifests import Lines, parse_cut
from asr.data.processes import run_tasks
from asr.features import AnyFeatures, Units
from asr.files import fingerprint

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


@dataclass(frozen=True)
class ShardTask:
    """lines: those of the manifest with the cuts, by number from 0, parsed."""

    number: int
    lines: dict[int, Any]


def write_shar(cuts_path: Path, output: Path, features: AnyFeatures, *, shard_size: int, seed: int, jobs: int = 2) -> None:
    """Writes the utterances of ``cuts_path``, shuffled, as shards of ``shard_size``: stored features as float16, else audio as FLAC.

    An interrupted call goes on with the first unfinished shard; ``output`` appears, whole, when all are done. Raises ValueError
    naming the utterance that cannot be read.
    """
    lines = Lines(cuts_path)
    order = array("q", range(len(lines)))
    random.Random(derived_seed(seed, "shards")).shuffle(order)
    key = fingerprint(cuts_path, features.model_dump(mode="json"), shard_size, seed)
    unfinished = output.with_name(f".{output.name}.{key[:12]}.part")
    for other in set(output.parent.glob(f".{output.name}.*.part")) - {unfinished}:
        shutil.rmtree(other)
    unfinished.mkdir(parents=True, exist_ok=True)
    for leftover in unfinished.glob(".shard*"):
        shutil.rmtree(leftover)
    tasks = (
        ShardTask(number, {row: lines[row] for row in order[first: first + shard_size]})
        for number, first in enumerate(range(0, len(order), shard_size)) if not (unfinished / cuts_file(number)).exists()
    )
    write = partial(write_shard, cuts_path=cuts_path, directory=unfinished, features=features, units=open_units(features, cuts_path))
    run_tasks(write, tasks, lambda task: len(task.lines), jobs, f"shards of {output.name}")
    if output.exists():
        shutil.rmtree(output)
    os.rename(unfinished, output)


def cuts_file(number: int) -> str:
    return f"cuts.{number:06d}.jsonl.gz"


def write_shard(task: ShardTask, cuts_path: Path, directory: Path, features: AnyFeatures, units: Units | None) -> None:
    """Data first, then the cuts, whose presence says that the shard is whole."""
    from lhotse.shar import SharWriter

    field, format = ("features", "numpy") if features.stored else ("recording", "flac")
    suffix = f".{task.number:06d}"
    with tempfile.TemporaryDirectory(prefix=".shard", dir=directory) as partial:
        with SharWriter(partial, {field: format}, shard_size=None, shard_suffix=suffix, warn_unused_fields=False) as writer:
            for row, values in task.lines.items():
                cut = parse_cut(values, cuts_path, row + 1)
                try:
                    writer.write(_in_memory(cut, features, units) if features.stored else cut.drop_features())
                except Exception as error:  # whatever a decoder raises
                    raise ValueError(f"utterance '{cut.id}': cannot be read ({type(error).__name__}: {error}); "
                                     "run the stages of manifests and features again") from error
        for name in (f"{field}{suffix}.tar", cuts_file(task.number)):
            path = Path(partial) / name
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(path, directory / name)


def _in_memory(cut: "MonoCut", features: AnyFeatures, units: Units | None) -> "MonoCut":
    """The cut without its audio, its features as float16, the type they are stored in, or its units as uint16."""
    from lhotse.utils import fastcopy

    from asr.data.archive import DTYPE

    stream = BytesIO()
    np.save(stream, stored_features(cut, features, units).numpy().astype(DTYPE if units is None else np.uint16))
    without_audio: Any = cut.drop_recording()
    without_audio.features = fastcopy(cut.features, storage_type="memory_npy", storage_path="", storage_key=stream.getvalue())
    return without_audio
