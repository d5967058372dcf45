"""Confidence in error rates by resampling: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR
performance evaluation", ICASSP 2004.

A set is drawn again from its own units (utterances, or speakers where errors of one speaker go together) with replacement,
and the spread of the error rate over such sets is its uncertainty. Legend: N units, R resamples.
"""
from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.score.errors import Scored

RESAMPLES = 1000
_BLOCK = 50  # resamples at a time, so that memory stays small for sets of any size


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Of a system against a baseline on the same utterances.

    difference: error rate of the system minus that of the baseline, with its 95 % interval.
    probability_better: share of resampled sets on which the system makes fewer errors, ties counting half
        ("probability of improvement" in section 4 of the paper).
    p_value: two-sided: twice the share of resampled sets on which the difference has not the sign it has on most, at most 1
        (the achieved significance level of B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", chapter 15); never 0,
        since the observed set counts as one of them.
    """

    difference: float
    interval: Interval
    probability_better: float
    p_value: float


def interval(errors_N: np.ndarray, lengths_N: np.ndarray, *, groups: Sequence[Hashable] | None = None,
             resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """95 % percentile interval of the rate sum(errors) / sum(lengths).

    errors_N, lengths_N: (N,) errors and reference symbols of each utterance.
    groups: a label for each utterance; utterances of one label are drawn together. Default: each on its own.
    """
    errors_N, lengths_N = _sum_groups(groups, errors_N, lengths_N)
    return _percentiles(_resampled_rates(errors_N, lengths_N, resamples, seed))


def compare(system: Scored, baseline: Scored, *, groups: Sequence[Hashable] | None = None,
            resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Paired bootstrap: both systems are scored on the same resampled sets.

    Raises ValueError where the two were not decoded from the same utterances with the same references.
    """
    references = {u.utterance.id: u.utterance.ref for u in baseline.utterances}
    for scored in system.utterances:
        if references.pop(scored.utterance.id, None) != scored.utterance.ref:
            raise ValueError(f"utterance '{scored.utterance.id}' is missing from the other system, or has another reference there; "
                             "decode both again")
    if references:
        raise ValueError(f"utterance '{min(references)}' was decoded by one of two systems only; decode both again")
    errors = {u.utterance.id: u.words.errors for u in baseline.utterances}
    added_N: np.ndarray = system.errors_N - np.array([errors[u.utterance.id] for u in system.utterances], dtype=np.int64)
    difference = float(added_N.sum() / max(system.words.length, 1))
    differences_R = _resampled_rates(*_sum_groups(groups, added_N, system.lengths_N), resamples, seed)
    better = float(np.mean(differences_R < 0) + 0.5 * np.mean(differences_R == 0))
    tails = 1 + np.minimum(np.sum(differences_R <= 0), np.sum(differences_R >= 0))
    return Comparison(difference, _percentiles(differences_R), better, p_value=min(1.0, float(2 * tails / (1 + resamples))))


def _sum_groups(groups: Sequence[Hashable] | None, errors_N: np.ndarray, lengths_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if groups is None:
        return errors_N, lengths_N
    numbers: dict[Hashable, int] = {}
    group_N = [numbers.setdefault(group, len(numbers)) for group in groups]
    return np.bincount(group_N, weights=errors_N), np.bincount(group_N, weights=lengths_N)


def _resampled_rates(errors_N: np.ndarray, lengths_N: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(R,) rates; a set drawn without one reference symbol counts its errors against one."""
    blocks = _weights(len(errors_N), resamples, seed)
    return np.concatenate([weights_RN @ errors_N / np.maximum(weights_RN @ lengths_N, 1) for weights_RN in blocks])


def _weights(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit occurs in each resampled set: int64 (R', N) blocks, R rows in total."""
    rng = np.random.default_rng(seed)
    for first in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - first)
        drawn_RN = rng.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(drawn_RN.ravel(), minlength=rows * units).reshape(rows, units)


def _percentiles(values_R: np.ndarray) -> Interval:
    low, high = np.percentile(values_R, [2.5, 97.5])
    return Interval(float(low), float(high))
