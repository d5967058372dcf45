"""Rooms: real impulse responses and simulated ones."""
from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.data.augment import Reverb, reverberate

RATE = 16000


def speech(seconds: float = 1.0) -> torch.Tensor:
    """A burst of noise between silences."""
    samples = torch.zeros(round(seconds * RATE))
    samples[2000:6000] = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    return samples


def test_a_response_is_convolved_and_aligned() -> None:
    """Against the sum over echoes, written out."""
    response = np.zeros(300, dtype=np.float32)
    response[[40, 90, 260]] = [1.0, 0.5, -0.25]  # the direct sound arrives after 40 samples
    dry = speech()
    expected = dry.clone()
    expected[50:] += 0.5 * dry[:-50]
    expected[220:] -= 0.25 * dry[:-220]
    expected *= (dry.square().sum() / expected.square().sum()).sqrt()
    wet = reverberate(dry, response)
    assert wet.dtype == torch.float32 and wet.shape == dry.shape
    torch.testing.assert_close(wet, expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(reverberate(torch.zeros(99), response), torch.zeros(99))
    assert torch.equal(reverberate(dry, np.zeros(5, dtype=np.float32)), dry)


def test_a_simulated_room_decays_as_asked() -> None:
    reverb = Reverb(Reverb.Config(probability=1.0, t60=(0.5, 0.5), direct_ratio=(6.0, 6.0)), RATE)
    response = reverb._simulated(random.Random(4))
    assert len(response) == 0.5 * RATE
    assert 10 * np.log10(response[0] ** 2 / np.square(response[1:]).sum()) == pytest.approx(6.0, abs=0.01)
    energy = np.square(response[1:].astype(np.float64))
    early, late = energy[:800].mean(), energy[4000:4800].mean()  # a quarter of a second apart: half of 60 dB
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=1.5)


def test_only_the_generator_decides() -> None:
    reverb = Reverb(Reverb.Config(probability=0.5), RATE)
    dry = speech()
    heard = [reverb(dry, random.Random(seed)) for seed in range(40)]
    assert all(torch.equal(wet, reverb(dry, random.Random(seed))) for seed, wet in enumerate(heard))
    unchanged = sum(torch.equal(wet, dry) for wet in heard)
    assert 10 < unchanged < 30
    assert len({float(wet.sum()) for wet in heard}) == 41 - unchanged
    assert all(float(wet.square().sum()) == pytest.approx(float(dry.square().sum()), rel=1e-4) for wet in heard)


def test_recorded_rooms(shared: Path, tmp_path: Path) -> None:
    reverb = Reverb(Reverb.Config(dir=shared / "corpora" / "rir", probability=1.0), RATE)
    assert len(reverb.recordings) == 4
    dry = speech()
    wet = [reverb(dry, random.Random(seed)) for seed in range(8)]
    assert len({float(samples.sum()) for samples in wet}) == 4
    assert all(float(samples[6200:8000].square().sum()) > 0 for samples in wet), "the room sounds on"
    soundfile.write(tmp_path / "eight.wav", np.eye(1, 100, 10)[0], 8000)
    assert Reverb(Reverb.Config(dir=tmp_path), RATE).recordings[0].sampling_rate == RATE
    with pytest.raises(ValueError, match="rir.dir: .*no audio files"):
        Reverb(Reverb.Config(dir=tmp_path / "nothing"), RATE)


def test_times_in_the_wrong_order() -> None:
    with pytest.raises(ValueError, match="the shortest time comes first"):
        Reverb.Config(t60=(0.5, 0.1))
