"""Training from lhotse's Shar: shards of cuts with their data beside them, of which only a few are open at a time.

    <dir>/cuts.000000.jsonl.gz       the cuts of a shard, one a line
    <dir>/features.000000.tar        their features, in the same order; or recording.000000.tar, their audio

An epoch is planned like any other, but window by window: its shards are shuffled and taken ``window`` at a time, and utterances are
shuffled and batched within a window. The plan needs durations only (8 bytes per utterance); a batch is read when its turn comes, each
utterance by its place in the tar file. So the sequence of batches is, as elsewhere, a function of (seed, epoch) alone: workers,
processes and resuming change nothing, and what was done before is not read again.
"""
from __future__ import annotations

import gzip
import json
import random
import tarfile
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Collection, Iterator, NamedTuple

import numpy as np

from asr.data.batches import BatchConfig, SharConfig, derived_seed, training_plan
from asr.data.checks import Tokenizer
from asr.data.manifests import json_lines, parse_cut
from asr.features import AnyFeatures

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


@dataclass
class Place:
    """An utterance that has not been read: what planning needs to know. ``shard`` is a number, ``row`` counts its cuts."""

    shard: int
    row: int
    duration: float
    speed: float = 1.0

    @property
    def id(self) -> tuple[int, int]:
        return self.shard, self.row

    def perturb_speed(self, factor: float, affix_id: bool = False) -> "Place":
        return replace(self, duration=self.duration / factor, speed=factor)


class SharPlan:
    """The batches of one epoch: ``plan[index]`` reads the cuts of a batch, features or audio attached.

    padding: the fraction of the epoch's frames that is padding.

    Raises ValueError where the directory has no shards, or not of the data that ``features`` asks for.
    """

    def __init__(
        self, shar: SharConfig, config: BatchConfig, features: AnyFeatures, tokenizer: Tokenizer | None, *,
        seed: int, epoch: int, exclude: Collection[str] = (),
    ) -> None:
        """tokenizer: needed with ``max_lattice``."""
        self._shards = shards(shar.dir, "features" if features.stored else "recording")
        excluded = frozenset(exclude)
        self._index = [_index(shard.cuts, shard.cuts.stat().st_mtime_ns, tokenizer, excluded) for shard in self._shards]
        self._config, self._seed, self._epoch, self._most_open = config, seed, epoch, 2 * shar.window
        order = list(range(len(self._shards)))
        random.Random(derived_seed(seed, epoch, "shards")).shuffle(order)
        self._windows = [order[first: first + shar.window] for first in range(0, len(order), shar.window)]
        self._open: dict[int, _OpenShard] = {}
        self._planned: tuple[int, list[list[Place]]] = (-1, [])
        self._ends, self.padding = self._measure()
        if not len(self):
            raise ValueError(f"{shar.dir}: no utterance is left to train on")

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> "list[MonoCut]":
        window = bisect_right(self._ends, index)
        batch = self._plan(window)[index - (self._ends[window - 1] if window else 0)]
        return [self._cut(place) for place in batch]

    def _measure(self) -> tuple[list[int], float]:
        """Number of batches up to the end of each window, and the padding of all."""
        counts, real, padded = [], 0.0, 0.0
        for window in range(len(self._windows)):
            plan = self._plan(window)
            counts.append(len(plan))
            real += sum(place.duration for batch in plan for place in batch)
            padded += sum(len(batch) * max(place.duration for place in batch) for batch in plan)
        return list(accumulate(counts)), 1 - real / padded if padded else 0.0

    def _plan(self, window: int) -> list[list[Place]]:
        if self._planned[0] != window:
            places = [
                Place(shard, int(row), float(self._index[shard].durations[row]))
                for shard in self._windows[window] for row in self._index[shard].usable
            ]
            seed = derived_seed(self._seed, self._epoch, window)
            plan = training_plan(places, self._config, seed, self._epoch, self._tokens) if places else []
            self._planned = window, plan
        return self._planned[1]

    def _tokens(self, place: Place) -> int:
        return int(self._index[place.shard].tokens[place.row])

    def _cut(self, place: Place) -> "MonoCut":
        if place.shard not in self._open:
            if len(self._open) >= self._most_open:
                del self._open[next(iter(self._open))]
            self._open[place.shard] = _OpenShard(self._shards[place.shard])
        cut = self._open[place.shard].read(place.row)
        return cut if place.speed == 1.0 else cut.perturb_speed(place.speed, affix_id=False)


class Shard(NamedTuple):
    """Its files. field: "features" or "recording"."""

    cuts: Path
    data: Path
    field: str


def shards(directory: Path, field: str) -> list[Shard]:
    """The shards of a directory by number. Raises ValueError where there are none, or one has no data of this kind."""
    found = [Shard(cuts, directory / f"{field}.{cuts.name.split('.')[1]}.tar", field) for cuts in _cut_files(directory)]
    for shard in found:
        if not shard.data.is_file():
            wanted = "false" if field == "features" else "true"
            raise ValueError(f"{shard.data}: no such file; write the shards with this config by local/export_shar.py, "
                             f"or set features.stored: {wanted} if they hold the other kind of data")
    return found


def shar_cuts(directory: Path) -> "Iterator[MonoCut]":
    """The cuts of all shards, one after the other, without data."""
    for path in _cut_files(directory):
        for number, values in enumerate(json_lines(path), start=1):
            yield parse_cut(values, path, number)


def _cut_files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("cuts.*.jsonl.gz"))
    if not files:
        raise ValueError(f"{directory}: no shards (cuts.*.jsonl.gz) here; local/export_shar.py writes them")
    return files


class _Index(NamedTuple):
    """durations: seconds of each cut. tokens: of each cut, where they were asked for. usable: rows that are not excluded."""

    durations: np.ndarray
    tokens: np.ndarray
    usable: np.ndarray


@cache
def _index(cuts: Path, changed: int, tokenizer: Tokenizer | None, exclude: frozenset[str]) -> _Index:
    """Read once, kept for all epochs. changed: when the file was, in nanoseconds."""
    durations, tokens, usable = [], [], []
    for row, values in enumerate(json_lines(cuts)):
        durations.append(values["duration"])
        if tokenizer is not None:
            tokens.append(sum(len(tokenizer.encode(supervision.get("text") or "")) for supervision in values["supervisions"]))
        if values["id"] not in exclude:
            usable.append(row)
    return _Index(np.array(durations), np.array(tokens, dtype=np.int32), np.array(usable, dtype=np.int32))


class _OpenShard:
    """The lines of a shard's cuts, and where the data of each begins in the tar file."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        with gzip.open(shard.cuts, "rb") as file:
            self._lines = file.readlines()
        try:
            with tarfile.open(shard.data, "r:") as archive:
                members = archive.getmembers()
        except tarfile.TarError as error:
            raise ValueError(f"{shard.data}: damaged, or compressed ({error}); write the shards again by local/export_shar.py") from None
        if len(members) != 2 * len(self._lines):
            raise ValueError(f"{shard.data}: {len(members) // 2} entries for {len(self._lines)} cuts; write the shards again")
        self._members = list(zip(members[::2], members[1::2]))  # data, then what it is

    def read(self, row: int) -> "MonoCut":
        """A cut with its data in memory."""
        from lhotse.serialization import deserialize_item
        from lhotse.shar.utils import fill_shar_placeholder

        cut: Any = parse_cut(json.loads(self._lines[row]), self._shard.cuts, row + 1)
        data, meta = self._members[row]
        name = Path(data.name)
        if str(name.parent / name.stem) != cut.id:
            raise ValueError(f"{self._shard.data}: '{data.name}' where the data of '{cut.id}' should be; write the shards again")
        if name.suffix == ".nodata":
            raise ValueError(f"{self._shard.data}: utterance '{cut.id}' has no {self._shard.field}; write the shards again")
        with open(self._shard.data, "rb") as file:
            manifest = deserialize_item(json.loads(_content(file, meta)))
            fill_shar_placeholder(manifest, _content(file, data), name)
        setattr(cut, self._shard.field, manifest)
        return cut


def _content(file: Any, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) < member.size:
        raise ValueError(f"{file.name}: ends within '{member.name}'; write the shards again")
    return content
