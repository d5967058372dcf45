"""Fixed changes of audio are of the size they are said to be."""
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from asr.data.perturb import faster, noisy, pitched, stretched

RATE = 8000


def tone(frequency: float, seconds: float = 2.0) -> Tensor:
    return 0.5 * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * RATE)) / RATE)


def frequency(samples: Tensor) -> float:
    spectrum = torch.fft.rfft(samples * torch.hann_window(len(samples))).abs()
    return float(spectrum.argmax()) * RATE / len(samples)


@pytest.mark.parametrize("snr", [0, 20])
def test_noise(snr: float) -> None:
    added = noisy(tone(440), snr, seed=0) - tone(440)
    assert 10 * math.log10(float(tone(440).square().mean() / added.square().mean())) == pytest.approx(snr, abs=0.3)
    assert not noisy(torch.zeros(100), snr, seed=0).any()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed(factor: float) -> None:
    changed = faster(tone(440), factor)
    assert len(changed) == pytest.approx(2 * RATE / factor, abs=1)
    assert frequency(changed) == pytest.approx(440 * factor, abs=1)


@pytest.mark.parametrize("semitones", [-2, 2])
def test_pitch(semitones: float) -> None:
    changed = pitched(tone(440), semitones, RATE)
    assert len(changed) == 2 * RATE and torch.isfinite(changed).all()
    assert frequency(changed) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)
    assert float(changed.square().mean()) == pytest.approx(float(tone(440).square().mean()), rel=0.2)


def test_stretching_by_nothing_changes_nothing() -> None:
    assert float((stretched(tone(440), 2 * RATE, RATE) - tone(440))[500:-500].abs().max()) < 0.02
