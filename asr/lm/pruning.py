"""Entropy pruning of back-off n-gram models.

Stolcke, "Entropy-based pruning of backoff language models", 1998: an n-gram hw goes where the model without it, its back-off weight
made anew, would have a perplexity that is higher by less than a threshold. With h' for h without its first word, and sums over the
words w that the model lists after h,

    a(h) = (1 - sum p(w|h)) / (1 - sum p(w|h'))                                      the back-off weight, eq. 5
    D(hw) = -p(h) { p(w|h) [log p(w|h') + log a'(h) - log p(w|h)] + [log a'(h) - log a(h)] (1 - sum p(w|h)) }          eq. 4

where a' has hw taken out of both of its sums. All n-grams are judged by the model as it was. K_n counts the n-grams of order n.
"""
from __future__ import annotations

import numpy as np

from asr.lm.ngram import BOS, EOS, NEVER, Floats, Ints, NgramLm, Order

TINY = 1e-12
"""Of probability mass: what is less is rounding."""


def prune(lm: NgramLm, threshold: float) -> NgramLm:
    """``lm`` without the n-grams (n > 1) that raise its perplexity by less than a factor of 1 + ``threshold`` each; those that are
    histories of longer ones stay. The result is normalised as the model was."""
    kept = [np.ones(len(order), dtype=bool) for order in lm.orders]
    for n in range(lm.order, 1, -1):
        kept[n - 1] = _perplexity_ratio(lm, n) >= threshold
        if n < lm.order:
            longer = lm.orders[n]
            kept[n - 1][longer.history[kept[n]]] = True
    orders = [lm.orders[0]]
    for n in range(2, lm.order + 1):
        order, mask = lm.orders[n - 1], kept[n - 1]
        if not mask.any():
            break
        row = np.cumsum(kept[n - 2]) - 1
        orders.append(Order(row[order.history[mask]], order.word[mask], order.log_prob[mask], np.zeros(int(mask.sum()))))
    return NgramLm(lm.words, _with_backoffs(lm.words, orders))


def _perplexity_ratio(lm: NgramLm, n: int) -> Floats:
    """(K_n,) by how much the perplexity rises where one n-gram of order n is taken out: exp(D) - 1."""
    order = lm.orders[n - 1]
    grams = _spelled(lm.orders, n)
    prob, lower = 10.0**order.log_prob, 10.0 ** _last_log_probs(lm, grams[:, 1:])
    rest, lower_rest = _rests(order.history, prob, lower, len(lm.orders[n - 2]))
    rest, lower_rest = rest[order.history], lower_rest[order.history]
    log_weight = np.log(rest / lower_rest)
    log_weight_without = np.log((rest + prob) / (lower_rest + lower))
    seen = _history_probs(lm, grams[:, :-1])
    divergence = -seen * (prob * (np.log(lower) + log_weight_without - np.log(prob)) + (log_weight_without - log_weight) * rest)
    return np.expm1(divergence)


def _with_backoffs(words: list[str], orders: list[Order]) -> list[Order]:
    """``orders`` with the back-off weights that make every history's probabilities add up to 1."""
    result: list[Order] = []
    for n, order in enumerate(orders, 1):
        weights = np.zeros(len(order))
        if n < len(orders):
            longer = orders[n]
            lower = 10.0 ** _last_log_probs(NgramLm(words, [*result, order]), _spelled(orders, n + 1)[:, 1:])
            rest, lower_rest = _rests(longer.history, 10.0**longer.log_prob, lower, len(order))
            weights[longer.history] = np.log10(rest / lower_rest)[longer.history]
        result.append(Order(order.history, order.word, order.log_prob, weights))
    return result


def _rests(history: Ints, prob: Floats, lower: Floats, histories: int) -> tuple[Floats, Floats]:
    """Per history, what the listed words leave of the probability mass: of p(w|h), and of p(w|h')."""
    rest = 1.0 - np.bincount(history, weights=prob, minlength=histories)
    lower_rest = 1.0 - np.bincount(history, weights=lower, minlength=histories)
    return np.maximum(rest, TINY), np.maximum(lower_rest, TINY)


def _spelled(orders: list[Order], n: int) -> Ints:
    """(K_n, n) the words of the n-grams of order n."""
    columns, row = [], np.arange(len(orders[n - 1]))
    for order in reversed(orders[:n]):
        columns.append(order.word[row])
        row = order.history[row]
    return np.stack(columns[::-1], axis=1)


def _last_log_probs(lm: NgramLm, grams: Ints) -> Floats:
    """(K,) log10 of the probability of the last of each row's words, given the others and nothing else."""
    return _log_probs(lm, grams)[:, -1]


def _log_probs(lm: NgramLm, grams: Ints) -> Floats:
    begins = np.zeros(grams.shape, dtype=bool)
    begins[:, 0] = True
    return lm.log_probs(grams.reshape(-1), begins.reshape(-1)).reshape(grams.shape)


def _history_probs(lm: NgramLm, histories: Ints) -> Floats:
    """(K,) the probability of each row of words anywhere in a text; ``<s>`` is as frequent as ``</s>``."""
    log_probs = _log_probs(lm, histories)
    log_probs[:, 0] = np.where(histories[:, 0] == lm.ids[BOS], lm.orders[0].log_prob[lm.ids[EOS]], log_probs[:, 0])
    return 10.0 ** np.maximum(log_probs.sum(1), NEVER)
