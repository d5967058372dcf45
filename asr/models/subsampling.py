"""Subsampling: from feature frames to a quarter as many encoder frames, or as many as the input's rate asks for.

Shape legend: asr/types.py; C is the number of convolution channels.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.models.layers import Linear

TYPICAL_MEAN, TYPICAL_STD = -7.0, 3.5
"""Of log Mel energies of speech. Without the offset taken out, the first layers see little but the offset, and learn slowly."""


class ConvSubsampling(nn.Module):
    """Two 3x3 convolutions with stride 2 in time and frequency, then a linear layer.

    Gulati et al., "Conformer", Interspeech 2020, figure 1. The convolutions do not pad time, so an output frame within an
    utterance's length sees that utterance only, and masks are not needed.
    """

    class Config(BaseConfig):
        type: Literal["conv2d"] = "conv2d"
        channels: int = Field(default=32, ge=1)

    reads_mel = True
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

    def features_needed(self, frames: int) -> int:
        """Feature frames that so many encoder frames depend on."""
        return (frames - 1) * self.factor + self.min_frames

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


class FrameSubsampling(nn.Module):
    """``factor`` frames side by side, projected together; for what a frontend makes of units, at any rate.

    Sak et al., "Fast and accurate recurrent neural network acoustic models for speech recognition", Interspeech 2015
    (stacked frames). A frame needs none of its neighbours; frames that do not fill a stack at the end are left out.
    """

    class Config(BaseConfig):
        """factor: input frames per encoder frame: 1 or 2 for units at 20 to 50 Hz, 4 for 100 Hz."""

        type: Literal["frames"] = "frames"
        factor: int = Field(default=1, ge=1)

    reads_mel = False

    def __init__(self, config: "FrameSubsampling.Config", feature_dim: int, output_dim: int) -> None:
        super().__init__()
        self.factor = self.min_frames = config.factor
        self.linear = Linear(config.factor * feature_dim, output_dim)

    def frames_out(self, lens_B: Tensor) -> Tensor:
        return lens_B.div(self.factor, rounding_mode="floor")

    def features_needed(self, frames: int) -> int:
        return frames * self.factor

    def forward(self, features_BTF: Tensor, lens_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) to (B, S, D) and lengths. Utterances shorter than ``min_frames`` get length 0."""
        return self.linear(stacked(features_BTF, self.factor)), self.frames_out(lens_B)


def stacked(x_BTD: Tensor, factor: int) -> Tensor:
    """(B, T // factor, factor * D), at least one frame, of zeros where there are too few."""
    batch, frames, dim = x_BTD.shape
    x_BTD = F.pad(x_BTD, (0, 0, 0, max(0, factor - frames)))
    count = x_BTD.shape[1] // factor
    return x_BTD[:, : count * factor].reshape(batch, count, factor * dim)


SUBSAMPLINGS: dict[str, Any] = {"conv2d": ConvSubsampling, "frames": FrameSubsampling}
SubsamplingConfig = one_of(SUBSAMPLINGS)
