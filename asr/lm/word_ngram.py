"""An n-gram over words, looked up for many histories at once: for searches and second passes. N counts look-ups."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asr.lm.automaton import automaton
from asr.lm.ngram import EOS, NEVER, UNK, Floats, Ints, NgramLm


class WordNgram:
    """A history is one int64: the longest part of it that the model knows; ``start`` is that of the beginning of a sentence.

    Scores are natural log-probabilities, float64, with exact back-off.
    """

    def __init__(self, lm: NgramLm, words: Sequence[str], unknown_log_prob: float = 0.0) -> None:
        """words: of each word id that will be looked up. A word that the model does not know has ``<unk>``'s probability, and
        ``unknown_log_prob`` besides.
        """
        self._automaton = automaton(lm)
        self._size = lm.vocab_size
        self._keys = self._automaton.state * self._size + self._automaton.word
        unknown = lm.ids.get(UNK, -1)
        self._ids = np.array([lm.ids.get(word, unknown) for word in words], dtype=np.int64)
        self._added = np.where(self._ids == unknown, unknown_log_prob, 0.0)
        self._eos = lm.ids[EOS]
        self.start = self._automaton.start
        self.num_states = self._automaton.num_states

    def advance(self, state_N: Ints, word_N: Ints) -> tuple[Ints, Floats]:
        """(histories after one more word each, the word's log-probability)."""
        following_N, score_N = self._look_up(state_N, self._ids[word_N])
        return following_N, score_N + self._added[word_N]

    def final(self, state_N: Ints) -> Floats:
        """Log-probability of the end of the sentence."""
        return self._look_up(state_N, np.full(len(state_N), self._eos))[1]

    def _look_up(self, state_N: Ints, id_N: Ints) -> tuple[Ints, Floats]:
        following_N, score_N = np.zeros(len(state_N), dtype=np.int64), np.zeros(len(state_N))
        pending, state = np.arange(len(state_N)), state_N
        while len(pending):
            wanted = state * self._size + id_N[pending]
            arc = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
            found = (self._keys[arc] == wanted) & (id_N[pending] >= 0)
            following_N[pending[found]] = self._automaton.following[arc[found]]
            score_N[pending[found]] += self._automaton.log_prob[arc[found]]
            never = ~found & (state == 0)
            score_N[pending[never]] += NEVER
            onward = ~(found | never)
            score_N[pending[onward]] += self._automaton.weight[state[onward]]
            pending, state = pending[onward], self._automaton.backoff[state[onward]]
        return following_N, score_N * math.log(10)
