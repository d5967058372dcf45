from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from asr.hypotheses import Utterance
from asr.score.calibration import BINS, Calibration, calibrated, expected_error, fit, judged_words, read, reliability
from asr.score.errors import score
from asr.types import Word


def drawn(slope: float, offset: float, count: int = 20000) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and words right with the probability that the calibration makes of them."""
    rng = np.random.default_rng(0)
    confidence_N = rng.beta(3, 1, count).clip(1e-4, 1 - 1e-4)
    return confidence_N, rng.random(count) < expit(slope * logit(confidence_N) + offset)


def test_the_values_that_made_the_data_are_found() -> None:
    confidence_N, right_N = drawn(0.5, -0.4)
    slope, offset = fit(confidence_N, right_N)
    assert slope == pytest.approx(0.5, abs=0.05) and offset == pytest.approx(-0.4, abs=0.08)
    after_N = Calibration(slope, offset, "dev", len(right_N), "")(confidence_N)
    assert expected_error(confidence_N, right_N) > 0.1 > 0.02 > expected_error(after_N, right_N)
    assert np.all(np.diff(after_N[np.argsort(confidence_N)]) >= 0)


def test_nothing_wrong_or_nothing_right_or_upside_down_is_finite_and_never_turned_around() -> None:
    confidence_N = np.linspace(0, 1, 50)
    for right_N in (np.ones(50, dtype=bool), np.zeros(50, dtype=bool), confidence_N < 0.5):
        slope, offset = fit(confidence_N, right_N)
        after_N = Calibration(slope, offset, "dev", 50, "")(confidence_N)
        assert slope >= 0 and np.all(np.isfinite(after_N)) and np.mean(after_N) == pytest.approx(np.mean(right_N), abs=0.05)


def test_the_expected_error_is_that_of_the_bins_one_by_one() -> None:
    confidence_N, right_N = drawn(0.7, 0.2, 500)
    slow = 0.0
    for number in range(BINS):
        inside = [i for i, c in enumerate(confidence_N) if number / BINS <= c < (number + 1) / BINS]
        if inside:
            slow += abs(sum(right_N[i] for i in inside) - sum(confidence_N[i] for i in inside)) / 500
    assert expected_error(confidence_N, right_N) == pytest.approx(slow)
    assert sum(b.words for b in reliability(confidence_N, right_N)) == 500
    assert expected_error(np.array([1.0]), np.array([True])) == 0 and expected_error(np.array([]), np.array([])) is None


def test_judged_words_are_those_with_a_confidence() -> None:
    words = (Word("a", confidence=0.9), Word("x", confidence=0.4), Word("c"))
    confidence_N, right_N = judged_words(score([Utterance("u", "a b c", "a x c", words=words), Utterance("v", "a", "a")]))
    assert confidence_N.tolist() == [0.9, 0.4] and right_N.tolist() == [True, False]


def test_calibrated_words() -> None:
    found = calibrated([Word("a", 0.0, 1.0, 0.5), Word("b")], Calibration(1.0, float(logit(0.8)), "dev", 9, ""))
    assert found == [Word("a", 0.0, 1.0, 0.8), Word("b")]
    assert calibrated(found, None) == found


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"beam": {"slope": 1}}')
    with pytest.raises(ValueError, match="calibration.json: damaged"):
        read(tmp_path / "calibration.json")
