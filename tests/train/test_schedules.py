from __future__ import annotations

import math

import pytest

from asr.train.schedules import Constant, Cosine, Eden, Noam


def test_eden_is_the_published_formula():
    schedule = Eden(Eden.Config(decay_steps=7500, decay_epochs=3.5, warmup_steps=500, warmup_start=0.5))
    for step, epoch in [(0, 0), (250, 0), (500, 0), (5000, 2), (100_000, 30)]:
        by_step = ((step**2 + 7500**2) / 7500**2) ** -0.25
        by_epoch = ((epoch**2 + 3.5**2) / 3.5**2) ** -0.25
        warmup = 0.5 + 0.5 * step / 500 if step < 500 else 1.0
        assert schedule.factor(step, epoch, 0.5) == pytest.approx(by_step * by_epoch * warmup)


def test_noam_peaks_at_one_when_warm_and_follows_the_inverse_square_root():
    schedule = Noam(Noam.Config(warmup_steps=100))
    factors = [schedule.factor(step, 0, 0.0) for step in range(1000)]
    assert max(factors) == factors[99] == 1.0
    assert factors[49] == pytest.approx(0.5)
    assert factors[399] == pytest.approx(0.5)


def test_cosine_goes_from_one_to_final_over_the_run():
    schedule = Cosine(Cosine.Config(warmup_steps=10, final=0.1))
    assert schedule.factor(0, 0, 0.0) == pytest.approx(0.1)
    assert schedule.factor(9, 0, 0.0) == 1.0
    assert schedule.factor(4, 0, 0.5) == pytest.approx(0.5 * 0.55)
    assert schedule.factor(60, 3, 0.5) == pytest.approx(0.55)
    assert schedule.factor(110, 7, 1.0) == pytest.approx(0.1)


def test_constant_warms_up():
    schedule = Constant(Constant.Config(warmup_steps=4))
    assert [schedule.factor(step, 0, 0.0) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert Constant(Constant.Config()).factor(0, 0, 0.0) == 1.0


@pytest.mark.parametrize("schedule", [Eden(Eden.Config()), Noam(Noam.Config()), Cosine(Cosine.Config())])
def test_factors_are_finite_and_never_above_one(schedule):
    factors = [schedule.factor(step, step // 100, step / 20_000) for step in range(0, 20_000, 97)]
    assert all(math.isfinite(factor) and 0 <= factor <= 1 for factor in factors)
