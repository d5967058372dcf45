"""Back-off n-gram language models of any order, as sorted arrays.

The n-grams of one order are rows sorted by (history, last word), where the history is a row of the order below: a trie whose
look-ups are binary searches over whole arrays. K_n counts the n-grams of order n, P the positions of a text.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""log10-probability that ARPA files give to what is never predicted (``<s>``)."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """The n-grams of one order.

    history: (K_n,) row of the first n-1 words in the order below (0 for unigrams); word: (K_n,) id of the last word.
    log_prob: (K_n,) log10 of the probability; backoff: (K_n,) log10 of the back-off weight, 0 where the n-gram is no history.
    """

    history: Ints
    word: Ints
    log_prob: Floats
    backoff: Floats

    def __len__(self) -> int:
        return len(self.word)


@dataclass(frozen=True)
class Perplexity:
    """value: 10 ** (-log10_prob / (words - oov + sentences)): unknown words are left out, as usual; inf where nothing is left.
    words: of the text; oov: those of them that the model does not know; log10_prob: of everything but the unknown words.
    """

    value: float
    words: int
    oov: int
    sentences: int
    log10_prob: float

    def __str__(self) -> str:
        return f"perplexity {self.value:.2f} ({self.sentences} sentences, {self.words} words, {self.oov} of them unknown)"


class NgramLm:
    """words: the vocabulary; row i of the unigrams is word i. It contains ``<s>`` and ``</s>``, and ``<unk>`` where the model has one."""

    def __init__(self, words: Sequence[str], orders: Sequence[Order]) -> None:
        self.words = list(words)
        self.orders = list(orders)
        self.ids = {word: i for i, word in enumerate(self.words)}
        assert len(self.ids) == len(self.words) == len(orders[0]) and {BOS, EOS} <= self.ids.keys()
        self._keys = [order.history * len(self.words) + order.word for order in self.orders]
        assert all(bool((np.diff(keys) > 0).all()) for keys in self._keys), "n-grams must be sorted and distinct"

    @property
    def order(self) -> int:
        return len(self.orders)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def find(self, n: int, history: Ints, word: Ints) -> Ints:
        """Row of the n-gram made of row ``history`` of order n-1 (-1: no such row) and ``word``; -1 where the model has none."""
        keys = self._keys[n - 1]
        wanted = history * self.vocab_size + word
        row = np.searchsorted(keys, wanted)
        found = (history >= 0) & (row < len(keys))
        found[found] = keys[row[found]] == wanted[found]
        return np.where(found, row, -1)

    def suffixes(self) -> list[Ints]:
        """For each order, the row of each n-gram's last n-1 words in the order below; -1 where the model has none; 0 for unigrams."""
        result = [np.zeros(self.vocab_size, dtype=np.int64)]
        for n in range(2, self.order + 1):
            order = self.orders[n - 1]
            if n == 2:
                result.append(order.word)
            else:
                result.append(self.find(n - 1, result[-1][order.history], order.word))
        return result

    def log_probs(self, words: Ints, begins: NDArray[np.bool_]) -> Floats:
        """log10-probability (P,) of each word given all the words before it since the last position where ``begins`` is true.

        The back-off recursion of Katz 1987, from the shortest history to the longest, over all positions at once.
        """
        row = words
        scores = self.orders[0].log_prob[words]
        for n in range(2, self.order + 1):
            history = np.concatenate([[-1], row[:-1]])
            history[begins] = -1
            row = self.find(n, history, words)
            longer = np.where(history >= 0, self.orders[n - 2].backoff[history], 0.0) + scores
            scores = np.where(row >= 0, self.orders[n - 1].log_prob[row], longer)
        return scores

    def score(self, sentences: Iterable[Sequence[str]]) -> list[Floats]:
        """For each sentence the log10-probability of each of its words and of its end: (len(sentence) + 1,).

        An unknown word counts as ``<unk>``; where the model has none, its score is -inf and the words after it do without it as history.
        """
        sentences = list(sentences)
        if not sentences:
            return []
        words, lens = self._positions(sentences)
        ends = np.cumsum(lens + 2)
        begins = np.zeros(len(words), dtype=bool)
        begins[ends - lens - 2] = True
        unknown = words < 0
        if UNK in self.ids:
            scores = self.log_probs(np.where(unknown, self.ids[UNK], words), begins)
        else:
            begins[unknown] = True
            begins[1:] |= unknown[:-1]
            scores = np.where(unknown, -np.inf, self.log_probs(np.where(unknown, 0, words), begins))
        return [scores[end - n - 1 : end] for end, n in zip(ends.tolist(), lens.tolist())]

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> Perplexity:
        """Of a text; each sentence's end counts as a word."""
        sentences = list(sentences)
        scored = self.score(sentences)
        known = [np.array([word in self.ids and word != UNK for word in sentence] + [True]) for sentence in sentences]
        total = float(sum(scores[mask].sum() for scores, mask in zip(scored, known)))
        counted = int(sum(mask.sum() for mask in known))
        words = sum(map(len, sentences))
        oov = words + len(sentences) - counted
        return Perplexity(10 ** min(-total / counted, 300.0) if counted else math.inf, words, oov, len(sentences), total)

    def _positions(self, sentences: Sequence[Sequence[str]]) -> tuple[Ints, Ints]:
        """Word ids (-1: unknown) of all sentences between their ``<s>`` and ``</s>``, one after the other, and the sentences' lengths."""
        ids = [[self.ids[BOS], *(self.ids.get(word, -1) for word in sentence), self.ids[EOS]] for sentence in sentences]
        return np.concatenate([np.array(row, dtype=np.int64) for row in ids]), np.array([len(s) for s in sentences])
