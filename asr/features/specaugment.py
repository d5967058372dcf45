"""SpecAugment: Park et al., "SpecAugment: A Simple Data Augmentation Method for ASR", 2019; the number of time masks that adapts
to the length is from Park et al., "SpecAugment on Large Scale Datasets", 2020.

Shape legend: asr/types.py.
"""
from __future__ import annotations

from typing import Iterator

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig


class SpecAugment:
    class Config(BaseConfig):
        """probability: of an utterance being changed at all.
        time_warp: W of the paper, the largest shift of a frame, in frames; 0 for none. Only utterances longer than 2 W + 2 are warped.
        frequency_masks, frequency_width: how many, and F of the paper: the widest, in bins.
        time_masks, time_width: the most masks, and T of the paper: the longest, in frames.
        time_fraction: p of the paper: all time masks together cover at most this fraction of an utterance.
        """

        probability: float = Field(default=0.9, ge=0, le=1)
        time_warp: int = Field(default=0, ge=0)
        frequency_masks: int = Field(default=2, ge=0)
        frequency_width: int = Field(default=27, ge=1)
        time_masks: int = Field(default=10, ge=0)
        time_width: int = Field(default=100, ge=1)
        time_fraction: float = Field(default=0.15, ge=0, le=1)

    def __init__(self, config: "SpecAugment.Config") -> None:
        self.config = config

    def __call__(self, features_BTF: Tensor, lens_B: Tensor, generator: torch.Generator, copies: int = 1) -> Tensor:
        """Changed copies (copies * B, T, F); masked values become the utterance's mean, and what lies beyond ``lens_B`` is left alone.

        The copies of an utterance are warped alike, so that their frames stay in step, and masked differently.
        Every draw comes from ``generator`` (CPU), a fixed function of its state and of the lengths.
        """
        augmented = features_BTF.repeat(copies, 1, 1)
        for row, length in enumerate(lens_B.tolist()):
            if uniform(generator) < self.config.probability:
                warped_TF = self._warped(features_BTF[row, :length], generator)
                for copy in augmented[row :: len(features_BTF)]:
                    copy[:length] = self._masked(warped_TF.clone(), generator)
        return augmented

    def _warped(self, features_TF: Tensor, generator: torch.Generator) -> Tensor:
        most = self.config.time_warp
        return time_warp(features_TF, most, generator) if most and len(features_TF) > 2 * most + 2 else features_TF

    def _masked(self, features_TF: Tensor, generator: torch.Generator) -> Tensor:
        """``features_TF``, changed in place."""
        config = self.config
        frames, bins = features_TF.shape
        mean = features_TF.mean()
        for _ in range(config.frequency_masks):
            start, end = span(bins, min(config.frequency_width, bins), generator)
            features_TF[:, start:end] = mean
        for start, end in time_spans(frames, config.time_masks, config.time_width, config.time_fraction, generator):
            features_TF[start:end] = mean
        return features_TF


def time_warp(features_TF: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Moves a random frame by up to ``most`` frames, stretching what is before it and squeezing what is after, or the reverse."""
    frames = features_TF.shape[0]
    centre = _integer(most + 1, frames - most - 1, generator)
    moved = centre + _integer(-most, most, generator)
    if moved == centre:
        return features_TF
    parts = (features_TF[:centre], moved), (features_TF[centre:], frames - moved)
    return torch.cat([
        torch.nn.functional.interpolate(part.T.unsqueeze(0), size=size, mode="linear", align_corners=False).squeeze(0).T
        for part, size in parts
    ])


def time_spans(frames: int, most: int, width: int, fraction: float, generator: torch.Generator) -> Iterator[tuple[int, int]]:
    """At most so many intervals inside 0..frames, each at most ``width`` long, all together at most ``fraction`` of the frames."""
    budget = int(fraction * frames)
    masks = min(most, -(-budget // width))
    for _ in range(masks):
        yield span(frames, min(width, budget // masks), generator)


def span(size: int, widest: int, generator: torch.Generator) -> tuple[int, int]:
    """A random interval inside 0..size, of 0 to ``widest`` in width."""
    width = _integer(0, widest, generator)
    start = _integer(0, size - width, generator)
    return start, start + width


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform in low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
