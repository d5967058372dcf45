"""Convolutional subsampling: from feature frames to a quarter as many encoder frames.

Shape legend: asr/types.py; C is the number of convolution channels.
"""
from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.models.layers import Linear

TYPICAL_MEAN, TYPICAL_STD = -7.0, 3.5
"""Of log Mel energies of speech. Without the offset taken out, the first layers see little but the offset, and learn slowly."""


class ConvSubsampling(nn.Module):
    """Two 3x3 convolutions with stride 2 in time and frequency, then a linear layer.

    Gulati et al., "Conformer", Interspeech 2020, figure 1. The convolutions do not pad time, so an output frame within an
    utterance's length sees that utterance only, and masks are not needed.
    """

    class Config(BaseConfig):
        channels: int = Field(default=32, ge=1)

    factor = 4
    min_frames = 7
    """The fewest feature frames that give one encoder frame."""

    def __init__(self, config: "ConvSubsampling.Config", feature_dim: int, output_dim: int) -> None:
        super().__init__()
        if feature_dim < self.min_frames:
            raise ValueError(f"convolutional subsampling needs at least {self.min_frames} feature bins, got {feature_dim}")
        self.conv1 = nn.Conv2d(1, config.channels, kernel_size=3, stride=2)
        self.conv2 = nn.Conv2d(config.channels, config.channels, kernel_size=3, stride=2)
        self.linear = Linear(config.channels * _halved_twice(feature_dim), output_dim)

    @staticmethod
    def frames_out(lens_B: Tensor) -> Tensor:
        """Encoder frames of utterances of ``lens_B`` feature frames."""
        return ((lens_B - 1).div(2, rounding_mode="floor") - 1).div(2, rounding_mode="floor").clamp(min=0)

    def forward(self, features_BTF: Tensor, lens_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) to (B, S, D) and lengths. Utterances shorter than ``min_frames`` get length 0."""
        missing = self.min_frames - features_BTF.shape[1]
        if missing > 0:
            features_BTF = F.pad(features_BTF, (0, 0, 0, missing))
        scaled_BTF = (features_BTF - TYPICAL_MEAN) / TYPICAL_STD
        hidden_BCSF = F.silu(self.conv2(F.silu(self.conv1(scaled_BTF.unsqueeze(1)))))
        return self.linear(hidden_BCSF.permute(0, 2, 1, 3).flatten(2)), self.frames_out(lens_B)


def _halved_twice(n: int) -> int:
    return int(ConvSubsampling.frames_out(torch.tensor(n)))
