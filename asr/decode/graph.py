"""Decoding graphs as searches and lattices read them: arrays, whatever engine searches. A counts arcs, S states."""
from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asr.lang import Fst
from asr.lang.fst import FINAL
from asr.types import BLANK

GRAPH_ARC = "graph_arc"
"""Name of the arc attribute of k2 graphs and lattices that says which arc of the decoding graph each arc is."""

_PRIME = np.uint64(0x9E3779B97F4A7C15)
"""Odd, with bits all over: word histories are told apart by polynomial hashes in it."""


class DecodingGraph:
    """label_A: -1 for arcs into the final state; score_A: float64, times the graph's scale; begin_S1: where the arcs of each state begin.
    The words of arc a are ``words[splits[a]:splits[a + 1]]``.
    factor_A, summand_A: uint64; a word history's hash h becomes ``h * factor + summand`` along an arc.
    blank, end: numbers of two arcs that the graph does not have, without words or score: k2's transducer search takes them beside it.
    """

    def __init__(self, fst: Fst, scale: float = 1.0) -> None:
        self.fst, self.scale = fst, scale
        self.num_states, self.blank, self.end = fst.num_states, fst.num_arcs, fst.num_arcs + 1
        source_A, self.target_A, label_A = fst.arcs_A3.numpy().T.astype(np.int64)
        self.label_A = np.append(label_A, [BLANK, FINAL])
        self.begin_S1 = np.searchsorted(source_A, np.arange(self.num_states + 1))
        self.score_A = np.append(fst.scores_A.double().numpy() * scale, [0.0, 0.0])
        row_W = np.repeat(np.arange(fst.num_arcs), np.diff(fst.splits.numpy()))
        real = fst.outputs.numpy() > 0
        self.words = fst.outputs.numpy()[real].astype(np.int64)
        counts_A = np.bincount(row_W[real], minlength=fst.num_arcs + 2)
        self.splits = np.concatenate([[0], np.cumsum(counts_A)])
        self.factor_A = np.ones(fst.num_arcs + 2, dtype=np.uint64)
        self.summand_A = np.zeros(fst.num_arcs + 2, dtype=np.uint64)
        for k in range(int(counts_A.max(initial=0))):
            arc = np.flatnonzero(counts_A > k)
            self.summand_A[arc] = self.summand_A[arc] * _PRIME + self.words[self.splits[arc] + k].astype(np.uint64)
            self.factor_A[arc] *= _PRIME

    def words_of(self, arc: int) -> list[int]:
        return self.words[self.splits[arc] : self.splits[arc + 1]].tolist()

    @property
    def final(self) -> int:
        return self.num_states - 1

    def to_k2(self, k2: Any, device: torch.device | str) -> Any:
        """As a k2.Fsa, arcs sorted by label; ``GRAPH_ARC`` keeps their numbers here."""
        graph = replace(self.fst, scores_A=self.fst.scores_A * self.scale).to_k2()
        del graph.aux_labels
        setattr(graph, GRAPH_ARC, torch.arange(self.fst.num_arcs, dtype=torch.int32))
        setattr(graph, f"{GRAPH_ARC}_filler", -1)
        return k2.arc_sort(graph.to(device))


def load_graph(lang: Any, name: str, scale: float = 1.0) -> DecodingGraph:
    """The graph ``name`` of a language directory, read once for all searches and settings that are tried."""
    path = lang.directory / f"{name}.pt"
    return _load(path, path.stat().st_mtime_ns if path.exists() else 0, scale)


@lru_cache(maxsize=2)
def _load(path: Path, modified: int, scale: float) -> DecodingGraph:
    """modified: the file's time, so that a new file is read anew."""
    return DecodingGraph(Fst.load(path), scale)
