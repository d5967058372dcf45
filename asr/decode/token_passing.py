"""Graph search without k2: tokens of all utterances passed through a graph frame by frame, in whole arrays; lattices as k2 makes them.

Young, Russell and Thornton, "Token passing", 1989; pruned lattices as in Povey et al., "Generating exact lattices in the WFST framework",
ICASSP 2012, section 4. Shape legend: asr/types.py; N counts tokens (active states of utterances), A arcs. Where the graph is composed
with an n-gram during the search, a state is a pair of one of each: the graph's times the n-gram's number of states, plus the n-gram's.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr.decode.graph import DecodingGraph
from asr.decode.lattice import Lattices, ngram_scores
from asr.lang.fst import FINAL
from asr.lang.operations import expand
from asr.lm import WordNgram

SLACK = 1e-6
"""What rounding may take from the score of a path that is as good as the best."""


@dataclass(frozen=True)
class Beams:
    """search: log-probability below an utterance's best arc of a frame at which arcs are dropped, but for ``min_active`` of them.
    max_active: states per frame and utterance. output: log-probability below the best path at which a lattice's arcs are dropped.
    """

    search: float
    output: float
    min_active: int
    max_active: int


class OnTheFly:
    """An n-gram in place of the unigrams that ``graph`` was made of: at each word, ``scale`` times its score replaces the unigram's, so
    that unigrams look ahead. Hori, Hori, Minami and Nakamura, "Efficient WFST-based one-pass decoding with on-the-fly hypothesis
    rescoring", IEEE TASLP 2007.
    """

    def __init__(self, graph: DecodingGraph, ngram: WordNgram, scale: float) -> None:
        self.graph, self.ngram, self.scale = graph, ngram, scale
        _, unigram_W = ngram.advance(np.zeros(len(graph.words), dtype=np.int64), graph.words)
        self._unigram_A = np.diff(np.concatenate([[0.0], np.cumsum(unigram_W)])[graph.splits])
        self._unigram_A[graph.label_A == FINAL] += ngram.final(np.zeros(1, dtype=np.int64))[0]

    def advance(self, state_A: np.ndarray, arc_A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(states of the n-gram after each arc, what they add to its score)."""
        following_A, score_A = ngram_scores(self.graph, self.ngram, state_A, arc_A)
        return following_A, self.scale * score_A - self._unigram_A[arc_A]


@dataclass(frozen=True)
class _Layer:
    """The arcs of one frame. source, target: tokens before and after it; gain: what each arc adds to a token's score; score: the same
    but for the n-gram's part; total_N: scores of the tokens after it."""

    source_A: np.ndarray
    target_A: np.ndarray
    arc_A: np.ndarray
    gain_A: np.ndarray
    score_A: np.ndarray
    utterance_N: np.ndarray
    state_N: np.ndarray
    total_N: np.ndarray


def pass_tokens(
    graph: DecodingGraph, log_probs_BSV: np.ndarray, lens_B: np.ndarray, beams: Beams, on_the_fly: OnTheFly | None = None,
) -> Lattices:
    """Lattices of all paths within the beams. log_probs_BSV: of frame labels, times the acoustic scale; lens_B: 1 at least.

    on_the_fly: takes part in the pruning alone; the lattices' scores are the graph's.
    """
    batch, _, labels = log_probs_BSV.shape
    longest = int(lens_B.max())
    gains_BSV = np.full((batch, longest + 1, labels + 1), -np.inf)  # column 0 is for label -1, which an utterance's end alone allows
    inside_BS = np.arange(longest) < lens_B[:, None]
    gains_BSV[:, :longest, 1:][inside_BS] = log_probs_BSV[:, :longest][inside_BS]
    gains_BSV[np.arange(batch), lens_B, 0] = 0.0
    start = on_the_fly.ngram.start if on_the_fly else 0
    empty = np.zeros(0, dtype=np.int64)
    layer = _Layer(empty, empty, empty, empty, empty, np.arange(batch), np.full(batch, start), np.zeros(batch))
    layers = []
    for frame in range(longest + 1):
        layer = _step(graph, gains_BSV[:, frame], layer, beams, on_the_fly)
        layers.append(layer)
    return _lattices(graph, layers, batch, beams.output, on_the_fly.ngram.num_states if on_the_fly else 1)


def _step(graph: DecodingGraph, gains_BV: np.ndarray, before: _Layer, beams: Beams, on_the_fly: OnTheFly | None) -> _Layer:
    histories = on_the_fly.ngram.num_states if on_the_fly else 1
    node_N = before.state_N // histories
    begin_N = graph.begin_S1[node_N]
    source_A, place_A = expand(graph.begin_S1[node_N + 1] - begin_N)
    arc_A = begin_N[source_A] + place_A
    utterance_A = before.utterance_N[source_A]
    score_A = graph.score_A[arc_A] + gains_BV[utterance_A, graph.label_A[arc_A] + 1]
    gain_A, history_A = score_A, np.zeros(len(arc_A), dtype=np.int64)
    if on_the_fly:
        history_A, added_A = on_the_fly.advance(before.state_N[source_A] % histories, arc_A)
        gain_A = score_A + added_A
    total_A = before.total_N[source_A] + gain_A
    kept = total_A >= _cutoffs(total_A, utterance_A, len(gains_BV), beams)[utterance_A]
    kept &= total_A > -np.inf
    columns = (source_A, arc_A, utterance_A, gain_A, score_A, total_A, history_A)
    source_A, arc_A, utterance_A, gain_A, score_A, total_A, history_A = (column[kept] for column in columns)

    states = graph.num_states * histories
    key_A = utterance_A * states + graph.target_A[arc_A] * histories + history_A
    order = np.argsort(key_A)
    new = np.ones(len(order), dtype=bool)
    new[1:] = key_A[order[1:]] != key_A[order[:-1]]
    target_A = np.empty(len(order), dtype=np.int64)
    target_A[order] = np.cumsum(new) - 1
    key_N = key_A[order[new]]
    best_N = np.maximum.reduceat(total_A[order], np.flatnonzero(new)) if len(order) else total_A
    utterance_N = key_N // states

    kept_N = _most_active(best_N, utterance_N, beams.max_active)
    kept = kept_N[target_A] & (total_A >= best_N[target_A] - beams.output - SLACK)
    target_A = (np.cumsum(kept_N) - 1)[target_A[kept]]
    arcs = (source_A[kept], target_A, arc_A[kept], gain_A[kept], score_A[kept])
    return _Layer(*arcs, utterance_N[kept_N], (key_N % states)[kept_N], best_N[kept_N])


def _cutoffs(total_A: np.ndarray, utterance_A: np.ndarray, batch: int, beams: Beams) -> np.ndarray:
    """The lowest score of each utterance's arcs that is kept."""
    best_B = np.full(batch, -np.inf)
    np.maximum.at(best_B, utterance_A, total_A)
    cutoff_B = best_B - beams.search
    counts_B = np.bincount(utterance_A[total_A >= cutoff_B[utterance_A]], minlength=batch)
    for b in np.flatnonzero((counts_B < beams.min_active) & (counts_B > 0)):
        totals = total_A[utterance_A == b]
        rank = max(len(totals) - beams.min_active, 0)
        cutoff_B[b] = np.partition(totals, rank)[rank]
    return cutoff_B


def _most_active(best_N: np.ndarray, utterance_N: np.ndarray, max_active: int) -> np.ndarray:
    """Which tokens are among the best of their utterance, which come one utterance after the other."""
    kept_N = np.ones(len(best_N), dtype=bool)
    counts_B = np.bincount(utterance_N)
    for b in np.flatnonzero(counts_B > max_active):
        begin, end = np.searchsorted(utterance_N, [b, b + 1])
        worst = np.argpartition(best_N[begin:end], counts_B[b] - max_active)[: counts_B[b] - max_active]
        kept_N[begin + worst] = False
    return kept_N


def _lattices(graph: DecodingGraph, layers: list[_Layer], batch: int, beam: float, histories: int) -> Lattices:
    """The arcs that lie on a path to the end no more than ``beam`` worse than the utterance's best."""
    utterance_N = np.concatenate([np.arange(batch), *(layer.utterance_N for layer in layers)])
    state_N = np.concatenate([np.zeros(batch, dtype=np.int64), *(layer.state_N for layer in layers)])
    forward_N = np.concatenate([np.zeros(batch), *(layer.total_N for layer in layers)])
    offsets = np.cumsum([0, batch, *(len(layer.total_N) for layer in layers)])
    backward_N = np.where(state_N // histories == graph.final, 0.0, -np.inf)
    columns = []
    for frame, layer in reversed(list(enumerate(layers))):
        source_A, target_A = offsets[frame] + layer.source_A, offsets[frame + 1] + layer.target_A
        np.maximum.at(backward_N, source_A, layer.gain_A + backward_N[target_A])
        columns.append((source_A, target_A, layer.arc_A, layer.gain_A, layer.score_A))
    source_A, target_A, arc_A, gain_A, score_A = (np.concatenate(column) for column in zip(*columns))
    through_A = forward_N[source_A] + gain_A + backward_N[target_A]
    best_A = backward_N[utterance_N[source_A]]  # the nodes of the start are numbered as the utterances
    kept = (through_A >= best_A - beam - SLACK) & (through_A > -np.inf)
    source_A, target_A, arc_A, score_A = (column[kept] for column in (source_A, target_A, arc_A, score_A))
    return Lattices.of(graph, source_A, target_A, arc_A, score_A, np.arange(batch), utterance_N, batch)
