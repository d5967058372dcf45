"""A weighted transducer as plain tensors: what graph files hold, whatever engine built or searches them.

Conventions are k2's: state 0 is the start, the last state is the only final one and entered by arcs with label -1 only; scores are natural
log-probabilities (higher is better); a label or output 0 is epsilon, but label 0 is blank in graphs whose input is CTC. A counts arcs.
"""
from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr import fsa
from asr.files import save_tensors

FINAL = -1
"""Label and output of the arcs that enter the final state."""


@dataclass(frozen=True)
class Fst:
    """arcs_A3: int32, source and destination state and label of each arc, sorted by source.
    scores_A: float32. outputs: int32, the output labels of all arcs, one after the other; those of arc a are
    ``outputs[splits[a]:splits[a + 1]]``. splits: int32 (A + 1,).
    """

    arcs_A3: Tensor
    scores_A: Tensor
    outputs: Tensor
    splits: Tensor

    @classmethod
    def from_arcs(cls, arcs_A4: Any, scores_A: Any) -> "Fst":
        """From rows of (source, destination, label, output) in any order, one output each."""
        arcs_A4, scores_A = torch.as_tensor(arcs_A4, dtype=torch.int32), torch.as_tensor(scores_A, dtype=torch.float32)
        order = torch.argsort(arcs_A4[:, 0], stable=True)
        arcs_A4 = arcs_A4[order]
        splits = torch.arange(len(arcs_A4) + 1, dtype=torch.int32)
        return cls(arcs_A4[:, :3].contiguous(), scores_A[order], arcs_A4[:, 3].contiguous(), splits)

    @property
    def num_states(self) -> int:
        return int(self.arcs_A3[:, :2].max()) + 1 if len(self.arcs_A3) else 0

    @property
    def num_arcs(self) -> int:
        return len(self.arcs_A3)

    def __str__(self) -> str:
        return f"{self.num_states} states, {self.num_arcs} arcs"

    def save(self, path: Path) -> None:
        save_tensors(dict(vars(self)), path)

    @classmethod
    def load(cls, path: Path) -> "Fst":
        if not path.exists():
            raise ValueError(f"{path}: no such graph; run the recipe's stages 4 and 5 (local/prepare_lang.py, local/compile_graph.py)")
        try:
            if not zipfile.is_zipfile(path):
                raise TypeError("not written by torch")
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, pickle.UnpicklingError, TypeError) as error:
            raise ValueError(f"{path}: not a graph file ({error}); delete it and run the recipe's stages 4 and 5 again") from None

    def to_k2(self) -> Any:
        """As a k2.Fsa; ``aux_labels`` is a tensor where every arc has exactly one output, ragged otherwise."""
        k2 = fsa.k2("a decoding graph")
        arcs_A4 = torch.cat([self.arcs_A3, self.scores_A.view(torch.int32)[:, None]], dim=1)
        if len(self.outputs) == self.num_arcs and bool((self.splits[1:] - self.splits[:-1] == 1).all()):
            return k2.Fsa(arcs_A4, aux_labels=self.outputs.clone())
        shape = k2.ragged.create_ragged_shape2(row_splits=self.splits, cached_tot_size=len(self.outputs))
        return k2.Fsa(arcs_A4, aux_labels=k2.RaggedTensor(shape, self.outputs.clone()))

    @classmethod
    def from_k2(cls, graph: Any) -> "Fst":
        arcs_A3 = graph.arcs.values()[:, :3].clone()
        if isinstance(graph.aux_labels, Tensor):
            outputs, splits = graph.aux_labels, torch.arange(len(arcs_A3) + 1, dtype=torch.int32)
        else:
            outputs, splits = graph.aux_labels.values, graph.aux_labels.shape.row_splits(1)
        return cls(arcs_A3, graph.scores.detach().clone(), outputs.clone(), splits.clone())


@dataclass(frozen=True)
class Match:
    """The best path of a graph with a given input. score: its total; outputs: without epsilons."""

    score: float
    outputs: tuple[int, ...]


class Acceptor:
    """Looks up single input sequences in a graph without input epsilons. For checks, not for search."""

    def __init__(self, graph: Fst) -> None:
        self._graph = graph
        self._final = graph.num_states - 1
        key = graph.arcs_A3[:, 0].long() * (1 << 32) + graph.arcs_A3[:, 2].long() + 1
        sorted_key, order = torch.sort(key)
        self._key, self._order = sorted_key.numpy(), order.numpy()
        self._destination, self._score = graph.arcs_A3[:, 1].numpy(), graph.scores_A.double().numpy()

    def match(self, labels: Sequence[int]) -> Match | None:
        """The best path with exactly these labels, or None."""
        active: dict[int, tuple[float, Any]] = {0: (0.0, None)}
        for label in [*labels, FINAL]:
            following: dict[int, tuple[float, Any]] = {}
            for state, (score, trace) in active.items():
                for arc in self._arcs(state, label):
                    destination, total = int(self._destination[arc]), score + float(self._score[arc])
                    if destination not in following or total > following[destination][0]:
                        following[destination] = (total, (trace, arc))
            active = following
        if self._final not in active:
            return None
        score, trace = active[self._final]
        arcs: list[int] = []
        while trace is not None:
            trace, arc = trace
            arcs.append(arc)
        splits, outputs = self._graph.splits, self._graph.outputs
        words = [output for arc in reversed(arcs) for output in outputs[int(splits[arc]) : int(splits[arc + 1])].tolist()]
        return Match(score, tuple(word for word in words if word > 0))

    def _arcs(self, state: int, label: int) -> np.ndarray:
        key = state * (1 << 32) + label + 1
        return self._order[np.searchsorted(self._key, key) : np.searchsorted(self._key, key, side="right")]
