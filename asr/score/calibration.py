"""Confidences that mean what they say: of the words with confidence 0.8, eight in ten are right.

A search's confidence of a word is a product of posteriors, which may be too sure or not sure enough. Platt scaling maps it by two
numbers, fitted on the development set and kept in ``exp/<name>/decode/calibration.json``: p = sigmoid(slope * logit(c) + offset).
J. Platt, "Probabilistic outputs for support vector machines", 1999; on logits: C. Guo et al., "On calibration of modern neural
networks", ICML 2017, which has the expected calibration error, too. Legend: N words of hypotheses.
"""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from asr import hypotheses
from asr.files import atomic_write, fingerprint
from asr.score.errors import Scored, score_utterance
from asr.types import Word

BINS = 15
_EDGE = 1e-6  # confidences are written with six digits: none is nearer to 0 or 1


@dataclass(frozen=True)
class Calibration:
    """fitted_on: the split; words: how many of it. system: what it holds for, see :func:`system_of`."""

    slope: float
    offset: float
    fitted_on: str
    words: int
    system: str

    def __call__(self, confidence_N: np.ndarray) -> np.ndarray:
        return np.asarray(expit(self.slope * _logit(confidence_N) + self.offset))


def calibrated(words: Iterable[Word], calibration: Calibration | None) -> list[Word]:
    """The words with calibrated confidences, six digits of them."""
    if calibration is None:
        return list(words)
    return [word if word.confidence is None else replace(word, confidence=round(float(calibration(np.array(word.confidence))), 6))
            for word in words]


@dataclass(frozen=True)
class Bin:
    """Words whose confidence lies in one of ``BINS`` equal parts of 0..1: how many, their mean confidence, the share that is right."""

    words: int
    confidence: float
    accuracy: float


def system_of(checkpoint: str, settings: Mapping[str, Any]) -> str:
    """Fingerprint of weights and settings (tuned values included), as the header of hypotheses has them."""
    return fingerprint(checkpoint, settings)


def judged_words(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    """Confidences (N,) and whether they are right (N,) bool, of all recognised words that have a confidence."""
    found: list[tuple[float, bool]] = []
    for utterance in scored.utterances:
        right = [ref == hyp for ref, hyp in utterance.alignment if hyp is not None]
        words = utterance.utterance.words
        if len(words) == len(right):
            found += [(word.confidence, good) for word, good in zip(words, right) if word.confidence is not None]
    return np.array([confidence for confidence, _ in found]), np.array([good for _, good in found], dtype=bool)


def fit(confidence_N: np.ndarray, right_N: np.ndarray) -> tuple[float, float]:
    """(slope, offset) of highest likelihood, slope not below 0. The targets are Platt's, a little off 0 and 1, so that there is
    a finite answer where every word is right."""
    right, wrong = np.sum(right_N), np.sum(~right_N)
    target_N = np.where(right_N, (right + 1) / (right + 2), 1 / (wrong + 2))
    logit_N = _logit(confidence_N)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        z_N = values[0] * logit_N + values[1]
        error_N = expit(z_N) - target_N
        return float(np.mean(np.logaddexp(0, z_N) - target_N * z_N)), np.array([np.mean(error_N * logit_N), np.mean(error_N)])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return float(slope), float(offset)


def calibrate(results: Iterable[Path], file: Path) -> None:
    """Fits a calibration to each file of hypotheses of the development set, and keeps them in ``file`` by search."""
    before = read(file)
    found = dict(before)
    for path in results:
        decoded = hypotheses.read(path)
        confidence_N, right_N = judged_words(Scored(tuple(map(score_utterance, decoded.utterances))))
        if len(confidence_N):
            header = decoded.header
            system = system_of(header.checkpoint, header.settings)
            found[header.search] = Calibration(*fit(confidence_N, right_N), header.split, len(confidence_N), system)
    if found != before:
        with atomic_write(file) as out:
            json.dump({name: asdict(entry) for name, entry in found.items()}, out, indent=1)


def read(file: Path) -> dict[str, Calibration]:
    """By search; empty where nothing was calibrated yet."""
    if not file.exists():
        return {}
    try:
        return {name: Calibration(**entry) for name, entry in json.loads(file.read_text(encoding="utf-8")).items()}
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: damaged ({error}); remove it and run 'asr decode --splits dev --tune' again") from None


def find(file: Path, search: str, system: str) -> Calibration | None:
    """The calibration of a search, None where there is none of these weights and settings."""
    found = read(file).get(search)
    return found if found is not None and found.system == system else None


def reliability(confidence_N: np.ndarray, right_N: np.ndarray) -> list[Bin]:
    """The bins that have words, in ascending order."""
    bin_N = np.minimum((confidence_N * BINS).astype(int), BINS - 1)
    inside = [bin_N == number for number in np.unique(bin_N)]
    return [Bin(int(np.sum(of)), float(np.mean(confidence_N[of])), float(np.mean(right_N[of]))) for of in inside]


def expected_error(confidence_N: np.ndarray, right_N: np.ndarray) -> float | None:
    """The expected calibration error (ECE): |confidence - accuracy| of the bins, weighted by their words (Guo et al., eq. 3); None
    without words."""
    if not len(confidence_N):
        return None
    return sum(b.words * abs(b.confidence - b.accuracy) for b in reliability(confidence_N, right_N)) / len(confidence_N)


def _logit(confidence_N: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(confidence_N, _EDGE, 1 - _EDGE)))
