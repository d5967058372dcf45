"""What composing decoding graphs needs besides determinisation, on whole arrays of arcs: projections, epsilon removal, the CTC topology.

A arcs, S states; in joins, J counts pairs of arcs. Mohri, Pereira and Riley, "Speech recognition with weighted finite-state transducers",
2008, sections 3 and 5.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order

from asr.lang.fst import FINAL, Fst
from asr.types import BLANK


@dataclass(frozen=True)
class _Arcs:
    """Columns of arcs. words: number of a word sequence (0: none)."""

    source: np.ndarray
    destination: np.ndarray
    label: np.ndarray
    score: np.ndarray
    words: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "_Arcs":
        return _Arcs(*(column[chosen] for column in vars(self).values()))

    @staticmethod
    def concatenate(parts: list["_Arcs"]) -> "_Arcs":
        return _Arcs(*(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts))))

    def best(self) -> "_Arcs":
        """One arc of each kind, the highest score, sorted by source and label."""
        order = np.lexsort((-self.score, self.words, self.destination, self.label, self.source))
        kinds = np.stack([column[order] for column in (self.source, self.destination, self.label, self.words)])
        first = np.ones(len(order), dtype=bool)
        first[1:] = (kinds[:, 1:] != kinds[:, :-1]).any(axis=0)
        return self[order[first]]


def without_symbols(graph: Fst, vocab_size: int, num_words: int) -> Fst:
    """Labels from ``vocab_size`` and outputs from ``num_words`` on (the disambiguation symbols) become epsilons."""
    arcs_A3, outputs = graph.arcs_A3.clone(), graph.outputs.clone()
    arcs_A3[:, 2].masked_fill_(arcs_A3[:, 2] >= vocab_size, 0)
    outputs.masked_fill_(outputs >= num_words, 0)
    return Fst(arcs_A3, graph.scores_A, outputs, graph.splits)


def expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, place within the row) of each of ``counts[row]`` things, row by row."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)


def remove_epsilon(graph: Fst) -> Fst:
    """The same best paths without arcs of label 0: each other arc also follows from the epsilon arcs before it, whose words come first.

    There must be no cycle of epsilons.
    """
    source, destination, label = graph.arcs_A3.numpy().T.astype(np.int64)
    sequences = _Sequences(int(graph.outputs.max()) if len(graph.outputs) else 0)
    words = sequences.of(graph)
    arcs = _Arcs(source, destination, label, graph.scores_A.double().numpy(), words)
    begin_S = np.searchsorted(source, np.arange(graph.num_states + 1))
    entered_S = np.zeros(graph.num_states, dtype=bool)
    entered_S[destination[label != 0]] = entered_S[0] = True
    kept = [arcs[label != 0]]
    paths = arcs[(label == 0) & entered_S[source]]
    for _ in range(graph.num_states):
        if not len(paths.source):
            break
        row, place = expand((begin_S[1:] - begin_S[:-1])[paths.destination])
        arc = begin_S[paths.destination[row]] + place
        joined_words = sequences.join(paths.words[row], words[arc])
        joined = _Arcs(paths.source[row], destination[arc], label[arc], paths.score[row] + arcs.score[arc], joined_words)
        kept.append(joined[joined.label != 0])
        paths = joined[joined.label == 0].best()
    assert not len(paths.source), "a cycle of epsilons"
    return connect(sequences.graph(_Arcs.concatenate(kept).best()))


class _Sequences:
    """Numbers for word sequences: 0 the empty one, then single words by their ids, then what ``join`` makes of these."""

    def __init__(self, highest_word: int) -> None:
        self._spelled: list[tuple[int, ...]] = [(), *((word,) for word in range(1, highest_word + 1))]
        self._number: dict[tuple[int, ...], int] = {}

    def of(self, graph: Fst) -> np.ndarray:
        """The words of each arc."""
        outputs, splits = graph.outputs.numpy().astype(np.int64), graph.splits.numpy()
        row, _ = expand(np.diff(splits))
        word, row = outputs[outputs > 0], row[outputs > 0]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        numbers = np.zeros(graph.num_arcs, dtype=np.int64)
        for k in range(int(place.max(initial=-1)) + 1):
            arc = row[place == k]
            numbers[arc] = self.join(numbers[arc], word[place == k])
        return numbers

    def join(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        joined = np.maximum(first, second)
        both = np.flatnonzero((first > 0) & (second > 0))
        pairs, inverse = np.unique(np.stack([first[both], second[both]]), axis=1, return_inverse=True)
        numbers = [self._numbered(self._spelled[a] + self._spelled[b]) for a, b in pairs.T.tolist()]
        joined[both] = np.array(numbers, dtype=np.int64)[inverse.ravel()]
        return joined

    def _numbered(self, words: tuple[int, ...]) -> int:
        if words not in self._number:
            self._number[words] = len(self._spelled)
            self._spelled.append(words)
        return self._number[words]

    def graph(self, arcs: _Arcs) -> Fst:
        """A graph of these arcs: one output each (0 for no word) where that is enough, lists of words otherwise."""
        rows = torch.from_numpy(np.stack([arcs.source, arcs.destination, arcs.label], axis=1)).int()
        scores = torch.from_numpy(arcs.score).float()
        final = arcs.label == FINAL
        if not (arcs.words[final] > 0).any() and arcs.words.max(initial=0) <= len(self._spelled) - 1 - len(self._number):
            outputs = np.where(final, FINAL, arcs.words)
            return Fst(rows, scores, torch.from_numpy(outputs).int(), torch.arange(len(rows) + 1, dtype=torch.int32))
        lists = [self._spelled[number] + ((FINAL,) if ends else ()) for number, ends in zip(arcs.words.tolist(), final.tolist())]
        splits = np.cumsum([0, *map(len, lists)])
        flat = np.array([word for words in lists for word in words])
        return Fst(rows, scores, torch.from_numpy(flat).int(), torch.from_numpy(splits).int())


def select_arcs(graph: Fst, arcs: np.ndarray, rows_A3: np.ndarray) -> Fst:
    """A graph of the arcs ``rows_A3``, with score and outputs of the arc ``arcs[a]`` of ``graph`` each; nothing where that is -1."""
    order = np.lexsort((rows_A3[:, 1], rows_A3[:, 2], rows_A3[:, 0]))
    arcs, rows_A3 = arcs[order], rows_A3[order]
    splits = graph.splits.numpy().astype(np.int64)
    single = len(graph.outputs) == graph.num_arcs and bool((np.diff(splits) == 1).all())
    scores = np.where(arcs < 0, 0.0, graph.scores_A.numpy()[arcs]).astype(np.float32)
    if single:
        outputs = np.where(arcs < 0, 0, graph.outputs.numpy()[arcs])
        new_splits = np.arange(len(arcs) + 1)
    else:
        counts = np.where(arcs < 0, 0, np.diff(splits)[arcs])
        row, place = expand(counts)
        outputs = graph.outputs.numpy()[splits[arcs[row]] + place]
        new_splits = np.concatenate([[0], np.cumsum(counts)])
    splits_A1, outputs_W = torch.from_numpy(new_splits).int(), torch.from_numpy(outputs).int()
    return Fst(torch.from_numpy(rows_A3).int(), torch.from_numpy(scores), outputs_W, splits_A1)


def unconnected(graph: Fst) -> np.ndarray:
    """(S,) bool: which states lie on no path from the start to the end."""
    states = graph.num_states
    source, destination, _ = graph.arcs_A3.numpy().T
    useless = np.zeros(states, dtype=bool)
    for begin, tail, head in ((0, source, destination), (states - 1, destination, source)):
        arcs = csr_matrix((np.ones(len(tail), dtype=np.int8), (tail, head)), shape=(states, states))
        reached = np.zeros(states, dtype=bool)
        reached[breadth_first_order(arcs, begin, return_predecessors=False)] = True
        useless |= ~reached
    return useless


def connect(graph: Fst) -> Fst:
    """Without the states that lie on no path; the others keep their order."""
    useless_S = unconnected(graph)
    if not useless_S.any():
        return graph
    number_S = np.cumsum(~useless_S) - 1
    source, destination, label = graph.arcs_A3.numpy().T
    kept = np.flatnonzero(~(useless_S[source] | useless_S[destination]))
    return select_arcs(graph, kept, np.stack([number_S[source[kept]], number_S[destination[kept]], label[kept]], axis=1))


def compose_ctc(graph: Fst, modified: bool) -> Fst:
    """The CTC topology composed with a connected ``graph`` of tokens without epsilons: frame labels in (0 is blank).

    Its states are pairs of a state of ``graph`` and the token that was read last, or blank. Standard topology: equal tokens in a row
    need a blank between them (Graves et al., "Connectionist temporal classification", ICML 2006). modified: they need none, so that
    no state has to leave out the token it was entered by, and a pair's only arcs are its token's.
    """
    source, destination, label = graph.arcs_A3.numpy().T.astype(np.int64)
    after_blank = graph.num_states - 1  # states of the graph but the final one, numbered as there
    step, end = np.flatnonzero(label != FINAL), np.flatnonzero(label == FINAL)
    keys = label[step] * graph.num_states + destination[step]
    pairs, pair_of_step = np.unique(keys, return_inverse=True)
    token, state = pairs // graph.num_states, pairs % graph.num_states
    pair = after_blank + np.arange(len(pairs))
    final = np.full(len(end), after_blank + len(pairs))
    blank = np.arange(after_blank)

    parts: list[tuple[np.ndarray, ...]] = [  # (arc of the graph or -1, source, destination, label)
        (np.full(after_blank, -1), blank, blank, np.full(after_blank, BLANK)),
        (step, source[step], after_blank + pair_of_step, label[step]),
        (end, source[end], final, label[end]),
        (np.full(len(pairs), -1), pair, pair, token),
    ]
    if modified:
        parts.append((step, source[step], destination[step], label[step]))
        parts.append((np.full(len(pairs), -1), pair, state, token))
    else:
        parts.append((np.full(len(pairs), -1), pair, state, np.full(len(pairs), BLANK)))
        begin_S = np.searchsorted(source, np.arange(graph.num_states + 1))
        target = np.empty(graph.num_arcs, dtype=np.int64)
        target[step], target[end] = after_blank + pair_of_step, final
        row, place = expand((begin_S[1:] - begin_S[:-1])[state])
        arc = begin_S[state[row]] + place
        other = label[arc] != token[row]
        row, arc = row[other], arc[other]
        parts.append((arc, pair[row], target[arc], label[arc]))
    arcs, sources, destinations, labels = (np.concatenate(columns) for columns in zip(*parts))
    return select_arcs(graph, arcs, np.stack([sources, destinations, labels], axis=1))
