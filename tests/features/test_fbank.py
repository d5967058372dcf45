"""Filter banks: against the formula written out, against Kaldi's own code, and engine against engine."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asr.features import Fbank


def sweep(seconds: float, rate: int = 16000) -> torch.Tensor:
    """Rising tones with a little noise, as speech neither silent nor stationary."""
    time = torch.arange(int(seconds * rate)) / rate
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(3))
    return (0.3 * torch.sin(2 * math.pi * (200 + 900 * time) * time) * (1 + torch.sin(9 * time)) / 2 + 0.01 * noise).float()


def slow_fbank(samples: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Frame by frame, in float64, as Kaldi's feature-fbank.cc and mel-computations.cc describe it."""
    length, hop = rate * 25 // 1000, rate * 10 // 1000
    size = 1 << (length - 1).bit_length()
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85

    def mel(hertz: float) -> float:
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(20), mel(rate / 2 - 400), bins + 2)
    centres = np.array([mel(k * rate / size) for k in range(size // 2)])
    filters = np.zeros((bins, size // 2 + 1))
    for b in range(bins):
        low, middle, high = edges[b: b + 3]
        filters[b, : size // 2] = np.clip(np.minimum((centres - low) / (middle - low), (high - centres) / (high - middle)), 0, None)
    rows = []
    for t in range((len(samples) + hop // 2) // hop):
        frame = np.empty(length)
        for k in range(length):
            position = t * hop + hop // 2 - length // 2 + k
            while not 0 <= position < len(samples):  # the signal is mirrored at its ends
                position = -position - 1 if position < 0 else 2 * len(samples) - 1 - position
            frame[k] = samples[position]
        frame -= frame.mean()
        frame -= 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, size)) ** 2
        rows.append(np.log(np.maximum(filters @ power, np.finfo(np.float32).eps)))
    return np.array(rows)


@pytest.mark.parametrize("rate, bins", [(16000, 80), (8000, 23)])
def test_equals_the_formula(rate: int, bins: int) -> None:
    samples = sweep(0.33, rate)
    fast = Fbank(Fbank.Config(engine="lhotse", num_mel_bins=bins, sample_rate=rate))(samples)
    slow = slow_fbank(samples.double().numpy(), rate, bins)
    assert fast.dtype == torch.float32 and fast.shape == slow.shape
    assert np.abs(fast.numpy() - slow).max() < 2e-3


def test_equals_kaldi() -> None:
    native = pytest.importorskip("kaldi_native_fbank", reason="kaldi_native_fbank is not installed")
    options = native.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400
    samples = sweep(1.0)
    computer = native.OnlineFbank(options)
    computer.accept_waveform(16000, samples.tolist())
    computer.input_finished()
    theirs = np.stack([computer.get_frame(t) for t in range(computer.num_frames_ready)])
    assert np.abs(Fbank(Fbank.Config(engine="lhotse"))(samples).numpy() - theirs).max() < 1e-3


def test_kaldifeat_equals_lhotse() -> None:
    pytest.importorskip("kaldifeat", reason="kaldifeat is not installed; 'make kaldifeat' builds it")
    for samples in (sweep(1.0), sweep(0.017), torch.zeros(4000)):
        engines = [Fbank(Fbank.Config(engine=engine))(samples) for engine in ("lhotse", "kaldifeat")]
        assert engines[0].shape == engines[1].shape
        assert (engines[0] - engines[1]).abs().max() < 1e-3


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("samples", [441, 661, 662, 800, 15919, 15920, 16000])
def test_number_of_frames_is_foretold(samples: int, rate: int) -> None:
    config = Fbank.Config(sample_rate=rate)
    assert len(Fbank(config)(torch.randn(samples))) == config.num_frames(samples)


def test_silence_is_the_padding_value() -> None:
    config = Fbank.Config()
    silence = Fbank(config)(torch.zeros(1600))
    assert torch.allclose(silence, torch.tensor(config.padding_value))


def test_too_short_for_a_frame() -> None:
    with pytest.raises(ValueError, match="159 samples are less than one frame"):
        Fbank(Fbank.Config())(torch.zeros(159))
    assert len(Fbank(Fbank.Config())(torch.zeros(160))) == 1


def test_absent_engine_says_how_to_get_it() -> None:
    try:
        import kaldifeat  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="make kaldifeat"):
            Fbank(Fbank.Config(engine="kaldifeat"))
    else:
        assert Fbank(Fbank.Config()).engine == "kaldifeat"
