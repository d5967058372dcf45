"""Units beside the features: those of the same utterance, and those of its neighbours in the recording, looked up by id.

So batches may be shuffled, and features and units may come from different extractors. Shape legend: asr/types.py.
"""
from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.manifests import read_cuts
from asr.types import UnitSpace

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


class Beside:
    """What a batch gets of the units of a split."""

    def __init__(
        self, cuts: Path, load: Callable[[Any], Tensor], space: UnitSpace, *, input: float | None = None, codes: bool = False,
        past: bool = False, future: bool = False,
    ) -> None:
        """cuts: manifest of all utterances of the split. load: the units of a cut, integers (T, Q), in ``space``.
        input: where they stand beside the features in each frame, units per feature frame.
        codes: they are targets, ``targets.codes_BTQ``. past, future: ``before_BTQ`` and ``after_BTQ`` of the batch.
        """
        self.where, self.space, self.input, self.codes, self.past, self.future = cuts, space, input, codes, past, future
        self._load = load
        self._by_id = {cut.id: cut for cut in read_cuts(cuts)}
        self._neighbours = neighbours(self._by_id.values()) if past or future else {}

    def units(self, id: str) -> Tensor:
        """int64 (T, Q). Raises ValueError where the utterance has none, or others than ``space``."""
        cut = self._by_id.get(id)
        if cut is None:
            raise ValueError(f"utterance '{id}' is not in {self.where}: run the stage of features for the units, too")
        units_TQ = self._load(cut)
        if units_TQ.is_floating_point() or units_TQ.shape[1] != self.space.codebooks or units_TQ.max() >= self.space.vocabulary:
            raise ValueError(f"utterance '{id}': what {self.where} holds are no units of {self.space.codebooks} codebooks of "
                             f"{self.space.vocabulary}: run the stage of features again")
        return units_TQ.long()

    def batch(self, ids: Sequence[str]) -> Tensor:
        """int64 (B, T, Q), padded with -1."""
        return self._padded(ids)

    def before(self, ids: Sequence[str]) -> Tensor | None:
        """The same of the utterances before these, where ``past`` asks for it; nothing but padding for one without."""
        return self._padded([self._neighbours[id][0] for id in ids]) if self.past else None

    def after(self, ids: Sequence[str]) -> Tensor | None:
        return self._padded([self._neighbours[id][1] for id in ids]) if self.future else None

    def _padded(self, ids: Sequence[str | None]) -> Tensor:
        nothing_TQ = torch.full((1, self.space.codebooks), -1)
        return pad_sequence([nothing_TQ if id is None else self.units(id) for id in ids], batch_first=True, padding_value=-1)

    def joined(self, id: str, features_TC: Tensor) -> Tensor:
        """float32 (T, C + Q): each frame of features, and the units that sound in its middle."""
        assert self.input is not None
        units_TQ = self.units(id)
        row_T = ((torch.arange(len(features_TC)) + 0.5) * self.input).long().clamp(max=len(units_TQ) - 1)
        return torch.cat((features_TC, units_TQ[row_T].float()), dim=1)


def neighbours(cuts: "Iterable[MonoCut]") -> dict[str, tuple[str | None, str | None]]:
    """id -> ids of the utterances before and after in the same channel of the same recording, in the order of their starts."""
    order = sorted(cuts, key=lambda cut: (cut.recording.id, cut.channel, cut.start, cut.id))
    found: dict[str, tuple[str | None, str | None]] = {cut.id: (None, None) for cut in order}
    for one, other in pairwise(order):
        if (one.recording.id, one.channel) == (other.recording.id, other.channel):
            found[one.id] = (found[one.id][0], other.id)
            found[other.id] = (one.id, None)
    return found
