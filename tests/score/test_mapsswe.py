from __future__ import annotations

import math

import numpy as np
import pytest

from asr.hypotheses import Utterance
from asr.score.errors import Scored, align, score
from asr.score.mapsswe import mapsswe, segments


def of(ref: str, first: str, second: str) -> list[tuple[int, int]]:
    return list(segments(align(ref.split(), first.split()), align(ref.split(), second.split())))


@pytest.mark.parametrize(("ref", "first", "second", "found"), [
    ("a b c d e", "a b c d e", "a b c d e", []),
    ("a b c d e", "x b c d y", "a b c d z", [(1, 0), (1, 1)]),  # b c are right in both
    ("a b c d e", "x b y d z", "a b c d e", [(3, 0)]),  # b and d stand alone
    ("a b c d e", "x b c d e", "a b c x e", [(1, 0), (0, 1)]),
    ("a b c d e", "x b c y d e", "a b c d z", [(1, 0), (1, 1)]),
    ("a b c d", "a x b y c d", "a b c d", [(2, 0)]),  # an insertion parts two right words
    ("a b", "a b x", "", [(1, 2)]),
    ("", "a", "b c", [(1, 2)]),
])
def test_segments_by_hand(ref: str, first: str, second: str, found: list[tuple[int, int]]) -> None:
    assert of(ref, first, second) == found


def systems(seed: int, gain: float, utterances: int = 150) -> tuple[Scored, Scored]:
    """Two systems that get one of three words wrong in every utterance or not; the first, in a share ``gain`` fewer of them."""
    rng = np.random.default_rng(seed)
    refs = [f"w{i} x y" for i in range(utterances)]

    def recognised(rate: float) -> Scored:
        return score(Utterance(str(i), ref, ref if rng.random() > rate else ref.replace("w", "v")) for i, ref in enumerate(refs))

    return recognised(0.4 - gain), recognised(0.4)


def test_it_is_the_paired_z_test_of_differences_per_segment() -> None:
    system, baseline = systems(0, 0.1)
    pairs = [(a.words.errors, b.words.errors) for a, b in zip(system.utterances, baseline.utterances) if a.words.errors or b.words.errors]
    differences = np.array([a - b for a, b in pairs])
    z = differences.mean() / (differences.std(ddof=1) / np.sqrt(len(pairs)))
    found = mapsswe(system, baseline)
    assert found.segments == len(pairs) and found.z == pytest.approx(z)
    assert found.p_value == pytest.approx(math.erfc(abs(z) / math.sqrt(2)))
    assert mapsswe(baseline, system).z == pytest.approx(-z)


def test_equal_systems_are_rarely_told_apart_and_a_gain_is_found() -> None:
    p_values = [mapsswe(*systems(seed, 0.0)).p_value for seed in range(60)]
    assert np.mean([p < 0.05 for p in p_values]) < 0.15 and 0.3 < np.mean(p_values) < 0.7
    assert mapsswe(*systems(0, 0.3)).p_value < 0.001
    same = systems(0, 0.0)[0]
    assert mapsswe(same, same).p_value == 1


def test_differences_without_variance_are_counted_by_their_signs() -> None:
    good, bad = (score([Utterance(str(i), "a b", hyp) for i in range(4)]) for hyp in ("a b", "a x"))
    found = mapsswe(good, bad)
    assert (found.segments, found.z, found.p_value) == (4, -math.inf, 2 / 16)
