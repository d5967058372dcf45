from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.hypotheses import Utterance
from asr.score.bootstrap import compare, interval
from asr.score.errors import Scored, score


def scored(errors: list[int], length: int = 10, speakers: list[str] | None = None) -> Scored:
    """A set whose utterances have ``length`` words, so many of them wrong."""
    return score(Utterance(str(i), " ".join(["a"] * length), " ".join(["b"] * wrong + ["a"] * (length - wrong)),
                           speakers[i] if speakers else None) for i, wrong in enumerate(errors))


@settings(max_examples=50, deadline=None)
@given(errors=st.lists(st.integers(0, 10), min_size=5, max_size=60), seed=st.integers(0, 3))
def test_the_interval_covers_the_rate_it_is_of(errors: list[int], seed: int) -> None:
    errors_N, lengths_N = np.array(errors), np.full(len(errors), 10)
    found = interval(errors_N, lengths_N, seed=seed)
    assert min(errors) / 10 <= found.low <= errors_N.sum() / lengths_N.sum() <= found.high <= max(errors) / 10


def test_as_drawn_one_set_at_a_time() -> None:
    rng = np.random.default_rng(3)
    errors_N, lengths_N = rng.integers(0, 4, 30), rng.integers(3, 12, 30)
    slow = []
    generator = np.random.default_rng(7)
    for _ in range(20):  # the documented order: blocks of 50 sets from one generator
        for drawn in generator.integers(30, size=(50, 30)):
            slow.append(sum(errors_N[i] for i in drawn) / sum(lengths_N[i] for i in drawn))
    found = interval(errors_N, lengths_N, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])))


def test_the_width_is_that_of_the_normal_approximation() -> None:
    errors_N = np.random.default_rng(0).integers(0, 2, 2000)
    found = interval(errors_N, np.ones(2000), resamples=4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(2000), rel=0.08)


def test_speakers_that_differ_widen_the_interval() -> None:
    errors_N, lengths_N = np.repeat([0, 5, 0, 5, 0, 5, 0, 5], 50), np.full(400, 10)
    speakers = np.repeat(list("abcdefgh"), 50).tolist()
    over_speakers, over_utterances = interval(errors_N, lengths_N, groups=speakers), interval(errors_N, lengths_N)
    assert over_speakers.high - over_speakers.low > 3 * (over_utterances.high - over_utterances.low)


def test_a_system_against_itself_is_no_better() -> None:
    same = scored([0, 3, 1, 2, 5])
    found = compare(same, same)
    assert (found.difference, found.interval.low, found.interval.high, found.probability_better, found.p_value) == (0, 0, 0, 0.5, 1)


def test_a_small_but_steady_gain_is_seen_by_the_paired_test_alone() -> None:
    before = list(np.random.default_rng(1).integers(1, 9, 80))
    after = [wrong - (i % 4 == 0) for i, wrong in enumerate(before)]
    system, baseline = scored(after), scored(before)
    found = compare(system, baseline)
    assert found.difference == pytest.approx(-20 / 800)
    assert found.interval.low < found.difference < found.interval.high < 0 and found.probability_better > 0.99
    alone = [interval(s.errors_N, s.lengths_N) for s in (system, baseline)]
    assert alone[0].high > alone[1].low  # the two intervals overlap
    reverse = compare(baseline, system)
    assert reverse.p_value == found.p_value == 2 / 1001
    assert reverse.difference == -found.difference and reverse.probability_better < 0.01
    groups = [str(i % 8) for i in range(80)]
    assert compare(system, baseline, groups=groups).interval != found.interval


def test_the_order_of_utterances_does_not_matter() -> None:
    system, baseline = scored([0, 3, 1, 2, 5]), scored([1, 3, 3, 2, 6])
    turned = Scored(baseline.utterances[::-1])
    assert compare(system, turned) == compare(system, baseline)


def test_different_sets_are_not_compared() -> None:
    with pytest.raises(ValueError, match="'2' was decoded by one of two"):
        compare(scored([1, 2]), scored([1, 2, 3]))
    with pytest.raises(ValueError, match="'2' is missing from the other"):
        compare(scored([1, 2, 3]), scored([1, 2]))
    with pytest.raises(ValueError, match="has another reference"):
        compare(scored([1, 2]), scored([1, 2], length=11))
