"""Speech is found where it is, whatever the blocks it was read in."""
from __future__ import annotations

import numpy as np
import pytest

from asr.features.vad import VadRules, levels, speech

RATE = 8000
RULES = VadRules(padding=0.0)


def recording(*parts: tuple[float, float]) -> np.ndarray:
    """Noise of (seconds, decibels of full scale), one part after the other."""
    rng = np.random.default_rng(1)
    return np.concatenate([rng.normal(size=round(seconds * RATE)) * 10 ** (decibels / 20) for seconds, decibels in parts])


def found(rules: VadRules, *parts: tuple[float, float]) -> list[tuple[float, float]]:
    return [(region.start, region.end) for region in speech(levels(recording(*parts), RATE), rules)]


def test_levels_are_decibels() -> None:
    assert levels(recording((0.5, -20), (0.5, -60)), RATE) == pytest.approx([-20] * 50 + [-60] * 50, abs=4)
    assert levels(np.zeros(RATE + 30), RATE).tolist() == [-90.0] * 100


def test_speech_between_pauses() -> None:
    regions = found(RULES, (1.0, -60), (0.8, -20), (1.5, -60), (2.0, -30), (0.7, -60))
    assert np.array(regions).shape == (2, 2)
    assert np.abs(np.array(regions) - [[1.0, 1.8], [3.3, 5.3]]).max() <= 0.05


def test_short_pauses_and_short_noises_do_not_count() -> None:
    parts = (1.0, -60), (0.8, -20), (0.2, -60), (0.8, -20), (1.0, -60), (0.1, -20), (1.0, -60)
    (region,) = found(RULES, *parts)
    assert region == pytest.approx((1.0, 2.8), abs=0.05)
    assert len(found(VadRules(padding=0.0, min_pause=0.1, min_speech=0.05), *parts)) == 3


def test_padding_takes_no_more_than_half_of_a_pause_between() -> None:
    first, second = found(VadRules(padding=0.5), (0.2, -60), (0.8, -20), (0.4, -60), (0.8, -20), (2.0, -60))
    assert first[0] == 0.0 and first[1] == second[0] == pytest.approx(1.2, abs=0.05)
    assert second[1] == pytest.approx(2.7, abs=0.05)


def test_long_speech_is_cut_where_it_is_quietest() -> None:
    parts = (1.0, -60), (3.0, -20), (0.1, -40), (2.0, -20), (1.0, -60)
    regions = found(VadRules(padding=0.0, max_duration=4.0), *parts)
    assert [round(edge, 1) for region in regions for edge in region] == pytest.approx([1.0, 4.0, 4.0, 6.1], abs=0.1)


@pytest.mark.parametrize("parts", [((3.0, -50),), ((3.0, -200),), ((0.03, -10),)])
def test_steady_noise_and_silence_hold_no_speech(parts: tuple[tuple[float, float], ...]) -> None:
    assert found(RULES, *parts) == []
