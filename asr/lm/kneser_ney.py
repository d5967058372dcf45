"""Interpolated modified Kneser-Ney estimation, over whole arrays of n-grams.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999, section 3. For a history h, with a(hw) the
count of hw at the highest order and the number of distinct words before hw at the others,

    p(w | h) = (a(hw) - D(a(hw))) / sum_x a(hx) + g(h) p(w | h')          h' is h without its first word
    g(h) = (D1 N1(h) + D2 N2(h) + D3 N3+(h)) / sum_x a(hx)                Nk(h): number of w with a(hw) = k

down to the uniform distribution over all words but ``<s>``. n-grams that begin with ``<s>`` have nothing before them and keep their counts.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from asr.config import Config
from asr.lm.ngram import BOS, EOS, NEVER, UNK, Floats, Ints, NgramLm, Order

log = logging.getLogger(__name__)

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Of n-grams seen once, twice, more often, where a text is too small to estimate them (no n-gram with one of these counts)."""


class NgramConfig(Config):
    """order: of the n-gram over words, from which decoding graphs are made; token_order: of the one over tokens, for shallow fusion;
    transcripts_order: of the one over the tokens of the training transcripts alone, which low-order density ratios subtract.
    text: files with a sentence a line, besides the transcripts of the training split; normalised as these are.
    prune: n-grams over words go that raise the perplexity by less than this part (asr/lm/pruning.py), say 1e-8; 0 keeps all.
    """

    order: int = Field(default=3, ge=1)
    token_order: int = Field(default=5, ge=1)
    transcripts_order: int = Field(default=2, ge=1)
    text: tuple[str, ...] = ()
    prune: float = Field(default=0.0, ge=0)


@dataclass(frozen=True)
class _Counted:
    """n-grams of one order in sorted order, as ``asr.lm.ngram.Order``, with their (adjusted) counts."""

    history: Ints
    word: Ints
    suffix: Ints
    counts: Ints
    begins: np.ndarray


def estimate(
    sentences: Iterable[Sequence[str]], order: int, vocabulary: Iterable[str] | None = None, map_unknown: bool = False,
) -> NgramLm:
    """Estimates a model of ``order`` from sentences, each a sequence of words.

    vocabulary: all words that the model shall know, seen or not; default: the words of the sentences. ``<unk>`` is always added.
    map_unknown: whether words outside ``vocabulary`` count as ``<unk>``, instead of being an error.
    Raises ValueError where there is no sentence, a sentence contains ``<s>`` or ``</s>``, or words are unknown.
    """
    sentences = [list(sentence) for sentence in sentences]
    if not any(sentences):
        raise ValueError("there is no text to estimate an n-gram from: every sentence is empty")
    seen = {word for sentence in sentences for word in sentence}
    if reserved := seen & {BOS, EOS}:
        raise ValueError(f"the text contains {' and '.join(sorted(reserved))} as words; sentence boundaries are added here, remove them")
    known = set(seen if vocabulary is None else vocabulary) - {BOS, EOS, UNK}
    if outside := sorted(seen - known - {UNK}):
        if not map_unknown:
            some = ", ".join(outside[:10]) + (f" and {len(outside) - 10} more" if len(outside) > 10 else "")
            raise ValueError(f"{len(outside)} words of the text are not in the vocabulary: {some}; "
                             "give the same texts to local/prepare_lang.py, or set lang.oov=skip to count such words as <unk>")
        log.warning("%d words of the text are not in the vocabulary and count as %s", len(outside), UNK)
    words = [UNK, BOS, EOS, *sorted(known)]
    ids = {word: i for i, word in enumerate(words)}
    text = np.array([i for sentence in sentences for i in (1, *(ids.get(word, 0) for word in sentence), 2)], dtype=np.int64)
    return NgramLm(words, _smooth(_count(text, order, len(words)), len(words)))


def _count(text: Ints, order: int, vocab_size: int) -> list[_Counted]:
    """All n-grams of the text up to ``order``, with adjusted counts below it. An order that no sentence is long enough for is left out."""
    begins = text == 1
    row, first = text, np.arange(len(text))
    valid = np.ones(len(text), dtype=bool)
    rows: list[Ints] = [row]
    found: list[_Counted] = [_Counted(np.zeros(vocab_size, dtype=np.int64), np.arange(vocab_size), np.zeros(vocab_size, dtype=np.int64),
                                      np.bincount(text, minlength=vocab_size), np.arange(vocab_size) == 1)]
    for n in range(2, order + 1):
        valid = np.concatenate([[False], valid[:-1]]) & ~begins
        ends = np.flatnonzero(valid)
        if len(ends) == 0:
            log.warning("no sentence is long enough for %d-grams; the model's order is %d", n, n - 1)
            break
        keys, first, inverse, counts = np.unique(
            rows[-1][ends - 1] * vocab_size + text[ends], return_index=True, return_inverse=True, return_counts=True)
        row = np.full(len(text), -1, dtype=np.int64)
        row[ends] = inverse.reshape(-1)
        places = ends[first]
        found.append(_Counted(keys // vocab_size, keys % vocab_size, rows[-1][places], counts, begins[places - n + 1]))
        rows.append(row)
    return [_adjusted(low, high) for low, high in zip(found, found[1:])] + found[-1:]


def _adjusted(low: _Counted, high: _Counted) -> _Counted:
    """``low`` with the number of distinct words before each n-gram for a count."""
    preceded = np.bincount(high.suffix, minlength=len(low.word))
    return _Counted(low.history, low.word, low.suffix, np.where(low.begins, low.counts, preceded), low.begins)


def discounts(counts: Ints, n: int) -> tuple[float, float, float]:
    """D1, D2, D3+ of Chen and Goodman's equation 26, from all (adjusted) counts of one order n."""
    t1, t2, t3, t4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if min(t1, t2, t3) > 0:
        y = t1 / (t1 + 2 * t2)
        values = (1 - 2 * y * t2 / t1, 2 - 3 * y * t3 / t2, 3 - 4 * y * t4 / t3)
        if all(0 <= value <= k for k, value in enumerate(values, 1)):
            return values
    log.info("too little text for the %d-grams' discounts, taking %s", n, FALLBACK_DISCOUNTS)
    return FALLBACK_DISCOUNTS


def _smooth(orders: list[_Counted], vocab_size: int) -> list[Order]:
    """Probabilities and back-off weights of every order, shortest first."""
    predicted = np.arange(vocab_size) != 1
    lower: Floats = np.where(predicted, 1.0 / (vocab_size - 1), 0.0)  # uniform: what unigrams are interpolated with
    probs: list[Floats] = []
    weights: list[Floats] = []
    for n, grams in enumerate(orders, 1):
        counts = np.where(predicted, grams.counts, 0) if n == 1 else grams.counts
        discount = np.array([0.0, *discounts(counts, n)])[np.minimum(counts, 3)]
        histories = 1 if n == 1 else len(orders[n - 2].word)
        total = np.bincount(grams.history, weights=counts, minlength=histories)
        kept_back = np.bincount(grams.history, weights=discount, minlength=histories)
        weight = np.divide(kept_back, total, out=np.ones(histories), where=total > 0)
        below = lower if n == 1 else lower[grams.suffix]
        share = np.divide(counts - discount, total[grams.history], out=np.zeros(len(counts)), where=counts > 0)
        lower = share + weight[grams.history] * below
        probs.append(lower)
        weights.append(weight)
    result = []
    for n, grams in enumerate(orders, 1):
        backoff = _log10(weights[n]) if n < len(orders) else np.zeros(len(grams.word))
        result.append(Order(grams.history, grams.word, _log10(probs[n - 1]), backoff))
    return result


def _log10(values: Floats) -> Floats:
    return np.log10(values, out=np.full(len(values), NEVER), where=values > 0)
