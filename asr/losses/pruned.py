"""What the pruned losses share: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", Interspeech 2022.

A linear joiner, summed over the whole lattice, tells where the alignments of an utterance run; the real one is summed inside
windows of a few tokens per frame. Shape legend: asr/types.py; W is U + 1.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.losses.arcs import zero_padding
from asr.models.layers import Linear
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets


class Scales(NamedTuple):
    simple: float
    pruned: float


class PrunedLoss(nn.Module):
    """scale_simple * (loss of a linear joiner) + scale_pruned * (loss of the joiner inside the windows that the linear one finds)."""

    class Config(BaseConfig):
        """range: tokens per frame at which the joiner is evaluated.
        am_scale, lm_scale: smoothing of the linear joiner with its encoder or predictor part alone.
        simple_scale: weight of the linear joiner's loss after the warm-up; it falls from 1 to that while the weight of the
            pruned loss rises from 0.1 to 1.
        """

        weight: float = Field(default=1.0, gt=0)
        range: int = Field(default=5, ge=2)
        am_scale: float = Field(default=0.0, ge=0, lt=1)
        lm_scale: float = Field(default=0.25, ge=0, lt=1)
        simple_scale: float = Field(default=0.5, gt=0)
        warmup_steps: int = Field(default=2000, ge=0)

    config: Config

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.simple_am_proj = small_linear(model.encoder.output_dim, model.vocab_size + len(model.durations))
        self.simple_lm_proj = small_linear(model.predictor.output_dim, model.vocab_size + len(model.durations))

    def scales(self, step: int) -> Scales:
        """The weights of the two losses at a training step."""
        if step >= self.config.warmup_steps:
            return Scales(self.config.simple_scale, 1.0)
        done = step / self.config.warmup_steps
        return Scales(1.0 - done * (1.0 - self.config.simple_scale), 0.1 + 0.9 * done)

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        simple_B, pruned_B = self._both(encoder_out, targets, model)
        scales = self.scales(step)
        total_B = scales.simple * simple_B + scales.pruned * pruned_B
        return LossOut(total_B, {"simple": simple_B.detach(), "pruned": pruned_B.detach()})

    def nll(self, encoder_out: EncoderOut, targets: Targets, model: Transducer) -> Tensor:
        """The loss (B,) of the model's joiner alone."""
        return self._both(encoder_out, targets, model)[1]

    def _both(self, encoder_out: EncoderOut, targets: Targets, model: Transducer) -> tuple[Tensor, Tensor]:
        encoder_out = EncoderOut(zero_padding(encoder_out), encoder_out.lens_B)
        predictor_BWD = model.predictor(targets.tokens_BU)
        am_BSV = wide(self.simple_am_proj(encoder_out.frames_BSD))
        lm_BWV = wide(self.simple_lm_proj(predictor_BWD))
        return self.losses(am_BSV, lm_BWV, encoder_out, predictor_BWD, targets, model)

    def losses(
        self, am_BSV: Tensor, lm_BWV: Tensor, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, model: Transducer
    ) -> tuple[Tensor, Tensor]:
        """The losses (B,) of the linear joiner, whose logits are the sums of ``am_BSV`` and ``lm_BWV``, and of the model's."""
        raise NotImplementedError


def wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def small_linear(inputs: int, outputs: int) -> Linear:
    """A linear layer that starts with small weights, so that the first windows are not arbitrary."""
    linear = Linear(inputs, outputs)
    with torch.no_grad():
        linear.weight.mul_(0.25)
        linear.bias.zero_()
    return linear
