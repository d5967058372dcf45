"""A back-off n-gram model as a deterministic automaton with failure arcs: what graphs and batched scoring are made from.

Its states are the histories that matter: those with a continuation or a back-off weight in the model. State 0 is the empty one.
Mohri, Pereira and Riley, "Speech recognition with weighted finite-state transducers", 2008, section 4.1. A counts arcs, S states.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asr.lm.ngram import BOS, Floats, Ints, NgramLm


@dataclass(frozen=True)
class Automaton:
    """Arcs are sorted by (state, word); words are the model's ids, ``</s>`` ends a sentence, ``<s>`` is on no arc. All scores are log10.

    state, word, following: (A,) the arc from ``state`` with ``word`` leads to ``following`` (for ``</s>``: nowhere, 0).
    log_prob: (A,) of the word, given the state.
    backoff, weight: (S,) where a word without an arc is looked up instead, and what that costs; 0 and 0.0 for state 0, which has an arc
        for every word but ``<s>``.
    start: the state after ``<s>``.
    """

    state: Ints
    word: Ints
    following: Ints
    log_prob: Floats
    backoff: Ints
    weight: Floats
    start: int

    @property
    def num_states(self) -> int:
        return len(self.backoff)

    def arcs_of(self, states: Ints) -> tuple[Ints, Ints]:
        """All arcs of some states: (for each arc the place of its state in ``states``, the arc)."""
        first = np.searchsorted(self.state, states)
        counts = np.searchsorted(self.state, states, side="right") - first
        place = np.repeat(np.arange(len(states)), counts)
        within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        return place, first[place] + within


def automaton(lm: NgramLm) -> Automaton:
    """The automaton of a model of any order; pruned models (with n-grams whose suffixes are not listed) included."""
    bos = lm.ids[BOS]
    keys = np.zeros(0, dtype=np.int64)  # state * vocabulary + word of all arcs so far, sorted
    parts: list[tuple[Ints, Ints, Floats]] = []
    following = np.zeros(0, dtype=np.int64)
    backoff, weight = np.zeros(1, dtype=np.int64), np.zeros(1)
    state_of_row = np.zeros(1, dtype=np.int64)  # of the order below; for unigrams the empty history
    start = 0
    for n, order in enumerate(lm.orders, 1):
        state = state_of_row[order.history]
        shorter = _following_after_backoff(state, order.word, keys, following, backoff, lm.vocab_size)
        if n < lm.order:
            kept = order.backoff != 0
            kept[lm.orders[n].history] = True
        else:
            kept = np.zeros(len(order), dtype=bool)
        state_of_row = np.where(kept, len(backoff) + np.cumsum(kept) - 1, -1)
        backoff = np.concatenate([backoff, shorter[kept]])
        weight = np.concatenate([weight, order.backoff[kept]])
        if n == 1 and kept[bos]:
            start = int(state_of_row[bos])
        arc = order.word != bos
        parts.append((state[arc], order.word[arc], order.log_prob[arc]))
        following = np.concatenate([following, np.where(kept, state_of_row, shorter)[arc]])
        keys = np.concatenate([keys, (state * lm.vocab_size + order.word)[arc]])
    all_state, all_word, all_log_prob = (np.concatenate(column) for column in zip(*parts))
    return Automaton(all_state, all_word, following, all_log_prob, backoff, weight, start)


def _following_after_backoff(state: Ints, word: Ints, keys: Ints, following: Ints, backoff: Ints, vocab_size: int) -> Ints:
    """Where ``word`` leads from the longest proper suffix of ``state`` that has an arc for it; 0 from the empty history."""
    result = np.zeros(len(state), dtype=np.int64)
    pending = np.flatnonzero(state > 0)
    shorter = backoff[state]
    while len(pending):
        wanted = shorter[pending] * vocab_size + word[pending]
        arc = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = keys[arc] == wanted
        result[pending[found]] = following[arc[found]]
        pending = pending[~found & (shorter[pending] > 0)]
        shorter[pending] = backoff[shorter[pending]]
    return result
