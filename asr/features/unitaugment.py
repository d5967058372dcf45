"""What SpecAugment is to spectrograms, for discrete units: masks over time and over codebooks, and units swapped for others.

Time masks on units: Chang et al., "Exploring speech recognition, translation, and understanding with discrete speech units", ICASSP 2024.
Shape legend: asr/types.py.
"""
from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig
from asr.features.specaugment import span, time_spans, uniform


class UnitAugment:
    class Config(BaseConfig):
        """probability: of an utterance being changed at all.
        time_masks, time_width, time_fraction: the most masks; the longest, in frames; the most that all of them cover together.
        codebook_masks, codebook_width: how many, and how many neighbouring codebooks at most; where codebooks have an order (dMel).
        swap: the fraction of units that become another of the same codebook, drawn evenly.
        """

        probability: float = Field(default=0.9, ge=0, le=1)
        time_masks: int = Field(default=10, ge=0)
        time_width: int = Field(default=20, ge=1)
        time_fraction: float = Field(default=0.15, ge=0, le=1)
        codebook_masks: int = Field(default=0, ge=0)
        codebook_width: int = Field(default=27, ge=1)
        swap: float = Field(default=0.0, ge=0, le=1)

    def __init__(self, config: "UnitAugment.Config", vocabulary: int) -> None:
        self.config = config
        self.vocabulary = vocabulary

    def __call__(self, units_BTQ: Tensor, lens_B: Tensor, generator: torch.Generator, copies: int = 1) -> Tensor:
        """Changed copies (copies * B, T, Q) of int64 units; masked ones become ``vocabulary``, what lies beyond ``lens_B`` stays.

        Every draw comes from ``generator`` (CPU), a fixed function of its state and of the lengths.
        """
        augmented = units_BTQ.repeat(copies, 1, 1)
        for row, length in enumerate(lens_B.tolist()):
            if uniform(generator) < self.config.probability:
                for copy in augmented[row :: len(units_BTQ)]:
                    copy[:length] = self._utterance(copy[:length], generator)
        return augmented

    def _utterance(self, units_TQ: Tensor, generator: torch.Generator) -> Tensor:
        config = self.config
        frames, codebooks = units_TQ.shape
        if config.swap and self.vocabulary > 1:
            swapped_TQ = torch.rand(units_TQ.shape, generator=generator) < config.swap
            others_TQ = (units_TQ + torch.randint(1, self.vocabulary, units_TQ.shape, generator=generator)) % self.vocabulary
            units_TQ = torch.where(swapped_TQ, others_TQ, units_TQ)
        for _ in range(config.codebook_masks):
            start, end = span(codebooks, min(config.codebook_width, codebooks), generator)
            units_TQ[:, start:end] = self.vocabulary
        for start, end in time_spans(frames, config.time_masks, config.time_width, config.time_fraction, generator):
            units_TQ[start:end] = self.vocabulary
        return units_TQ
