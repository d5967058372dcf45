"""The pruned RNN-T loss: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", Interspeech 2022.

Two engines compute the same numbers: ``torch``, our own, everywhere, and ``k2`` where that is installed.
Shape legend: asr/types.py; W is U + 1.
"""
from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr import fsa
from asr.config import Config as BaseConfig
from asr.losses.arcs import next_tokens, window_arcs, zero_padding
from asr.losses.lattice import Topology, forward_backward
from asr.losses.simple_joiner import pruning_window, smoothed_arcs
from asr.models.joiner import Joiner
from asr.models.layers import Linear
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, LossOut, Targets


class Scales(NamedTuple):
    simple: float
    pruned: float


class PrunedRnnt(nn.Module):
    """scale_simple * (loss of a linear joiner) + scale_pruned * (loss of the joiner inside the windows that the linear one finds).

    An utterance whose transcript the windows cannot reach, U > S (range - 1) (regular) or U > S (modified), is impossible.
    """

    class Config(BaseConfig):
        """range: tokens per frame at which the joiner is evaluated.
        am_scale, lm_scale: smoothing of the linear joiner with its encoder or predictor part alone.
        simple_scale: weight of the linear joiner's loss after the warm-up; it falls from 1 to that while the weight of the
            pruned loss rises from 0.1 to 1.
        engine: auto takes torch, which needs nothing and is the faster.
        """

        type: Literal["pruned_rnnt"] = "pruned_rnnt"
        weight: float = Field(default=1.0, gt=0)
        topology: Topology = "regular"
        range: int = Field(default=5, ge=2)
        am_scale: float = Field(default=0.0, ge=0, lt=1)
        lm_scale: float = Field(default=0.25, ge=0, lt=1)
        simple_scale: float = Field(default=0.5, gt=0)
        warmup_steps: int = Field(default=2000, ge=0)
        engine: Literal["auto", "torch", "k2"] = "auto"

    def __init__(self, config: "PrunedRnnt.Config", model: Transducer) -> None:
        super().__init__()
        self.config = config
        self.simple_am_proj = _small_linear(model.encoder.output_dim, model.vocab_size)
        self.simple_lm_proj = _small_linear(model.predictor.output_dim, model.vocab_size)

    def scales(self, step: int) -> Scales:
        """The weights of the two losses at a training step."""
        if step >= self.config.warmup_steps:
            return Scales(self.config.simple_scale, 1.0)
        done = step / self.config.warmup_steps
        return Scales(1.0 - done * (1.0 - self.config.simple_scale), 0.1 + 0.9 * done)

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        encoder_out = EncoderOut(zero_padding(encoder_out), encoder_out.lens_B)
        predictor_BWD = model.predictor(targets.tokens_BU)
        am_BSV = _wide(self.simple_am_proj(encoder_out.frames_BSD))
        lm_BWV = _wide(self.simple_lm_proj(predictor_BWD))
        losses = ENGINES[self.config.engine]
        simple_B, pruned_B = losses(am_BSV, lm_BWV, encoder_out, predictor_BWD, targets, model.joiner, self.config)
        scales = self.scales(step)
        total_B = scales.simple * simple_B + scales.pruned * pruned_B
        return LossOut(total_B, {"simple": simple_B.detach(), "pruned": pruned_B.detach()})


def torch_losses(
    am_BSV: Tensor, lm_BWV: Tensor, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, joiner: Joiner,
    config: PrunedRnnt.Config,
) -> tuple[Tensor, Tensor]:
    """The losses (B,) of the simple joiner and, within the windows, of the joiner."""
    lens = encoder_out.lens_B, targets.lens_B
    rows = lm_BWV.shape[1]
    valid_BW = torch.arange(rows, device=lm_BWV.device) <= targets.lens_B.unsqueeze(1)
    arcs = smoothed_arcs(am_BSV, lm_BWV, next_tokens(targets), valid_BW, config.am_scale, config.lm_scale)
    simple = forward_backward(*arcs, *lens, config.topology)
    width = min(config.range, rows)
    first_BS = pruning_window(
        simple.blank_posterior_BSW, simple.label_posterior_BSW, *lens, width, step=1 if config.topology == "modified" else width - 1
    )
    arcs = window_arcs(joiner, encoder_out, predictor_BWD, targets, first_BS, width)
    return -simple.log_prob_B, -forward_backward(*arcs, *lens, config.topology).log_prob_B


def k2_losses(
    am_BSV: Tensor, lm_BWV: Tensor, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, joiner: Joiner,
    config: PrunedRnnt.Config,
) -> tuple[Tensor, Tensor]:
    """The same from k2."""
    k2 = fsa.k2("the k2 engine of the pruned_rnnt loss")
    # k2 wants at least one token, and at least as many frames as tokens; the boundary tells it what is real.
    tokens_BU = targets.tokens_BU if targets.tokens_BU.shape[1] else F.pad(targets.tokens_BU, (0, 1), value=BLANK)
    frames_BSD, am_BSV = (_lengthen(x, tokens_BU.shape[1]) for x in (encoder_out.frames_BSD, am_BSV))
    predictor_BWD, lm_BWV = (_lengthen(x, tokens_BU.shape[1] + 1) for x in (predictor_BWD, lm_BWV))
    zeros_B = torch.zeros_like(targets.lens_B)
    boundary_B4 = torch.stack([zeros_B, zeros_B, targets.lens_B, encoder_out.lens_B], dim=1)
    common: dict[str, Any] = {"symbols": tokens_BU, "termination_symbol": BLANK, "boundary": boundary_B4,
                              "rnnt_type": config.topology, "reduction": "none"}
    simple_B, posteriors = k2.rnnt_loss_smoothed(
        lm=lm_BWV, am=am_BSV, lm_only_scale=config.lm_scale, am_only_scale=config.am_scale, return_grad=True, **common
    )
    ranges_BSR = k2.get_rnnt_prune_ranges(*posteriors, boundary=boundary_B4, s_range=config.range)
    am_BSRJ, lm_BSRJ = k2.do_rnnt_pruning(
        am=joiner.project_encoder(frames_BSD), lm=joiner.project_predictor(predictor_BWD), ranges=ranges_BSR
    )
    pruned_B = k2.rnnt_loss_pruned(logits=_wide(joiner(am_BSRJ, lm_BSRJ)), ranges=ranges_BSR, **common)
    return simple_B, pruned_B


ENGINES = {"auto": torch_losses, "torch": torch_losses, "k2": k2_losses}


def _lengthen(x_BND: Tensor, length: int) -> Tensor:
    return F.pad(x_BND, (0, 0, 0, max(0, length - x_BND.shape[1])))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _small_linear(inputs: int, outputs: int) -> Linear:
    """A linear layer that starts with small weights, so that the first windows are not arbitrary."""
    linear = Linear(inputs, outputs)
    with torch.no_grad():
        linear.weight.mul_(0.25)
        linear.bias.zero_()
    return linear
