"""Fixed changes to a waveform, to see what something computed from it can bear: noise, speed, pitch."""
from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

WINDOW = 0.032
"""Seconds of the phase vocoder's window; it moves by a quarter of it."""


def noisy(samples: Tensor, snr: float, seed: int) -> Tensor:
    """White noise added at ``snr`` dB; silence stays silent."""
    noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(seed))
    return samples + noise * samples.square().mean().sqrt() / 10 ** (snr / 20)


def faster(samples: Tensor, factor: float) -> Tensor:
    """Played ``factor`` times as fast, which also raises its pitch."""
    from scipy.signal import resample_poly

    ratio = Fraction(factor).limit_denominator(100)
    return torch.from_numpy(resample_poly(samples.numpy(), ratio.denominator, ratio.numerator).astype("float32"))


def pitched(samples: Tensor, semitones: float, sample_rate: int) -> Tensor:
    """Higher by so many semitones (lower, if negative), as long as before."""
    return stretched(faster(samples, 2 ** (semitones / 12)), len(samples), sample_rate)


def stretched(samples: Tensor, length: int, sample_rate: int) -> Tensor:
    """As many samples as asked for, of the same pitch: Flanagan and Golden, "Phase Vocoder", 1966.

    Magnitudes are interpolated between frames; phases go on by as much as they do from one frame to the next.
    """
    size = 2 ** round(math.log2(WINDOW * sample_rate))
    hop = size // 4
    window = torch.hann_window(size)
    spectrum_FT = torch.stft(samples, size, hop, window=window, return_complex=True, pad_mode="constant")
    position_S = torch.linspace(0, spectrum_FT.shape[1] - 1, length // hop + 1)
    before_S = position_S.long().clamp(max=max(spectrum_FT.shape[1] - 2, 0))
    after_S = (before_S + 1).clamp(max=spectrum_FT.shape[1] - 1)
    weight_S = position_S - before_S
    magnitude_FS = torch.lerp(spectrum_FT.abs()[:, before_S], spectrum_FT.abs()[:, after_S], weight_S.expand(len(spectrum_FT), -1))
    advance_FS = spectrum_FT.angle()[:, after_S] - spectrum_FT.angle()[:, before_S]
    phase_FS = torch.cat((spectrum_FT.angle()[:, :1], advance_FS[:, :-1]), dim=1).double().cumsum(1).float()
    return torch.istft(torch.polar(magnitude_FS, phase_FS), size, hop, window=window, length=length)
