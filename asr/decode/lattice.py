"""Lattices of graph searches, whatever engine made them: n-best lists, and second passes by an n-gram.

N counts nodes, A arcs, E entries (partial paths that are kept), B utterances; an arc leads from a node of one frame to one of the next.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.decode.graph import GRAPH_ARC, DecodingGraph
from asr.lang.fst import FINAL
from asr.lang.operations import expand
from asr.lm import WordNgram


@dataclass(frozen=True)
class Path:
    """A path of one utterance.

    labels: token of each frame, blanks included; words: word ids; word_frames: frame of the arc that carries each.
    score: of the path as it was ranked; model_score, graph_score: parts of it, scaled; ngram_score: of a second pass, not scaled.
    """

    labels: tuple[int, ...]
    words: tuple[int, ...]
    word_frames: tuple[int, ...]
    score: float
    model_score: float
    graph_score: float
    ngram_score: float | None = None


@dataclass(frozen=True)
class SecondPass:
    """Replaces the graph's scores of all paths of a lattice by ``scale`` times those of a (larger) n-gram."""

    ngram: WordNgram
    scale: float


@dataclass(frozen=True)
class Lattices:
    """source_A, target_A: nodes; arc_A: the arc of ``graph``; score_A: float64, graph and (scaled) model together.
    Arcs are sorted by frame and source; those of frame s are ``begin_S1[s]`` up to ``begin_S1[s + 1]``. utterance_N: of each node.
    """

    graph: DecodingGraph
    source_A: np.ndarray
    target_A: np.ndarray
    arc_A: np.ndarray
    score_A: np.ndarray
    begin_S1: np.ndarray
    utterance_N: np.ndarray
    batch: int

    @classmethod
    def of(
        cls, graph: DecodingGraph, source_A: np.ndarray, target_A: np.ndarray, arc_A: np.ndarray, score_A: np.ndarray,
        start_B: np.ndarray, utterance_N: np.ndarray, batch: int,
    ) -> "Lattices":
        """From arcs in any order, all of them on paths from the nodes ``start_B``."""
        order = np.argsort(source_A, kind="stable")
        begin_N1 = np.searchsorted(source_A[order], np.arange(len(utterance_N) + 1))
        layers, nodes = [], np.sort(start_B)
        while len(nodes):
            row, place = expand(begin_N1[nodes + 1] - begin_N1[nodes])
            layers.append(order[begin_N1[nodes[row]] + place])
            nodes = np.unique(target_A[layers[-1]])
        begin_S1 = np.cumsum([0, *map(len, layers)])
        order = np.concatenate([np.zeros(0, dtype=np.int64), *layers])
        return cls(graph, source_A[order], target_A[order], arc_A[order], score_A[order], begin_S1, utterance_N, batch)

    @classmethod
    def from_k2(cls, lattice: Any, graph: DecodingGraph) -> "Lattices":
        """From a k2.FsaVec that a search over ``graph.to_k2()`` gave, or its shortest paths."""
        first_B1 = lattice.arcs.row_splits(1).cpu().numpy().astype(np.int64)
        utterance_N = lattice.arcs.row_ids(1).cpu().numpy().astype(np.int64)
        source_A = lattice.arcs.row_ids(2).cpu().numpy().astype(np.int64)
        target_A = lattice.arcs.values()[:, 1].cpu().numpy() + first_B1[utterance_N[source_A]]
        arc_A = getattr(lattice, GRAPH_ARC).cpu().numpy().astype(np.int64)
        arc_A = np.where(arc_A >= 0, arc_A, np.where(lattice.labels.cpu().numpy() == FINAL, graph.end, graph.blank))
        start_B = first_B1[:-1][np.diff(first_B1) > 0]
        score_A = lattice.scores.detach().cpu().numpy().astype(np.float64)
        return cls.of(graph, source_A, target_A, arc_A, score_A, start_B, utterance_N, len(first_B1) - 1)

    def n_best(self, n: int = 1, second: SecondPass | None = None) -> list[list[Path]]:
        """For each utterance the ``n`` best paths of different words, best first; fewer or none where it has no more.

        Exact: of all word histories that reach a node (and, in a second pass, the same state of the n-gram) the ``n`` best are kept,
        and the best alignment of each.
        """
        return _NBest(self, n, second).paths()

    def frame(self, s: int) -> slice:
        return slice(int(self.begin_S1[s]), int(self.begin_S1[s + 1]))


class _NBest:
    def __init__(self, lattices: Lattices, n: int, second: SecondPass | None) -> None:
        self.lattices, self.graph = lattices, lattices.graph
        self.n, self.second = n, second
        starts = np.unique(lattices.source_A[lattices.frame(0)]) if len(lattices.begin_S1) > 1 else np.zeros(0, dtype=np.int64)
        self.node_E = starts
        self.hash_E = np.zeros(len(starts), dtype=np.uint64)
        self.score_E = np.zeros(len(starts))
        self.state_E = np.full(len(starts), second.ngram.start if second else 0)
        self.trace: list[tuple[np.ndarray, np.ndarray]] = []  # for each frame: (entry of the frame before, arc) of each entry
        self.ends: list[tuple[int, int, int, float]] = []  # (utterance, frames, entry of the last, score)

    def paths(self) -> list[list[Path]]:
        for s in range(len(self.lattices.begin_S1) - 1):
            self._advance(s)
        found: list[list[Path]] = [[] for _ in range(self.lattices.batch)]
        for utterance, frame, entry, score in self.ends:
            found[utterance].append(self._path(frame, entry, score))
        return [sorted(paths, key=lambda path: -path.score)[: self.n] for paths in found]

    def _advance(self, s: int) -> None:
        frame = self.lattices.frame(s)
        source = self.lattices.source_A[frame]
        first = np.searchsorted(self.node_E, source)
        row, place = expand(np.searchsorted(self.node_E, source, side="right") - first)
        entry, arc = first[row] + place, frame.start + row
        graph_arc = self.lattices.arc_A[arc]
        score, state = self._scored(entry, arc, graph_arc)
        hashes = self.hash_E[entry] * self.graph.factor_A[graph_arc] + self.graph.summand_A[graph_arc]
        node = self.lattices.target_A[arc]
        order = np.lexsort((-score, hashes, node))
        order = order[_changes(node[order], hashes[order])]  # the best alignment of each word history
        order = order[np.lexsort((-score[order], state[order], node[order]))]
        group = _changes(node[order], state[order])
        rank = np.arange(len(order)) - np.flatnonzero(group)[np.cumsum(group) - 1]
        order = order[rank < self.n]
        self.node_E, self.hash_E, self.score_E, self.state_E = node[order], hashes[order], score[order], state[order]
        self.trace.append((entry[order], arc[order]))
        ends = np.flatnonzero(self.graph.label_A[graph_arc[order]] == FINAL)
        utterances = self.lattices.utterance_N[self.node_E[ends]].tolist()
        self.ends += zip(utterances, [s] * len(ends), ends.tolist(), self.score_E[ends].tolist())

    def _scored(self, entry: np.ndarray, arc: np.ndarray, graph_arc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(score, state of the n-gram) after each entry's arc."""
        score, state = self.score_E[entry] + self.lattices.score_A[arc], self.state_E[entry]
        if self.second is None:
            return score, state
        state, added = ngram_scores(self.graph, self.second.ngram, state, graph_arc)
        return score - self.graph.score_A[graph_arc] + self.second.scale * added, state

    def _path(self, frame: int, entry: int, score: float) -> Path:
        arcs = []
        for before, arc in reversed(self.trace[: frame + 1]):
            arcs.append(int(arc[entry]))
            entry = int(before[entry])
        graph_arcs = self.lattices.arc_A[arcs[::-1]]
        words, frames = [], []
        for s, arc in enumerate(graph_arcs.tolist()):
            told = self.graph.words_of(arc)
            words += told
            frames += [s] * len(told)
        graph_score = float(self.graph.score_A[graph_arcs].sum())
        model_score = float(self.lattices.score_A[arcs].sum()) - graph_score
        ngram_score = None if self.second is None else (score - model_score) / self.second.scale
        labels = tuple(self.graph.label_A[graph_arcs[:-1]].tolist())
        return Path(labels, tuple(words), tuple(frames), score, model_score, graph_score, ngram_score)


def ngram_scores(graph: DecodingGraph, ngram: WordNgram, state_E: np.ndarray, arc_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the n-gram's states after the words on some arcs of the graph, their scores, with the sentence's end on final arcs)."""
    state_E, score_E = state_E.copy(), np.zeros(len(arc_E))
    begin_E, count_E = graph.splits[arc_E], graph.splits[arc_E + 1] - graph.splits[arc_E]
    for k in range(int(count_E.max(initial=0))):
        rows = np.flatnonzero(count_E > k)
        state_E[rows], added = ngram.advance(state_E[rows], graph.words[begin_E[rows] + k])
        score_E[rows] += added
    ends = np.flatnonzero(graph.label_A[arc_E] == FINAL)
    score_E[ends] += ngram.final(state_E[ends])
    return state_E, score_E


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Where any of the (sorted) columns differs from the row before; the first row does."""
    changed = np.ones(len(columns[0]), dtype=bool)
    changed[1:] = False
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed
