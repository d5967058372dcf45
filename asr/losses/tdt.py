"""The loss of token-and-duration transducers (TDT), summed over all alignments.

Xu et al., "Efficient sequence transduction by jointly predicting tokens and durations", ICML 2023.
"""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.losses.arcs import Arcs, all_arcs, need_durations
from asr.losses.engines import Engine
from asr.losses.lattice import LatticeOut, forward_backward, tdt_forward_backward
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets


class TdtConfig(BaseConfig):
    """sigma: taken from the log-probability of every token and blank, so that alignments of few, long arcs are preferred
        (the paper's logit under-normalisation). It is part of the loss's value.
    omega: the share of training batches, drawn at random, whose loss is that of RNN-T over the tokens alone, for which durations do
        not matter; a model so trained can also be searched frame by frame.
    engine: what sums over the alignments, see engines.py; all give the same numbers.
    """

    sigma: float = Field(default=0.02, ge=0)
    omega: float = Field(default=0.0, ge=0, lt=1)
    engine: Engine = "auto"


class Tdt(nn.Module):
    """-log P(transcript), the joiner evaluated at every pair of a frame and a token: exact, and slow."""

    class Config(TdtConfig):
        """alignments: sum over all, or the best alone (the Viterbi approximation)."""

        type: Literal["tdt"] = "tdt"
        weight: float = Field(default=1.0, gt=0)
        alignments: Literal["all", "best"] = "all"

    def __init__(self, config: "Tdt.Config", model: Transducer) -> None:
        need_durations(model, "tdt", wanted=True)
        super().__init__()
        self.config = config

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        return LossOut(self.nll(encoder_out, targets, model))

    def nll(self, encoder_out: EncoderOut, targets: Targets, model: Transducer) -> Tensor:
        """The loss (B,), which the model alone decides."""
        arcs, durations = all_arcs(model, encoder_out, targets), draw_durations(model, self.config.omega, self.training)
        best = self.config.alignments == "best"
        return -sum_alignments(arcs, encoder_out.lens_B, targets.lens_B, durations, self.config, best).log_prob_B


def draw_durations(model: Transducer, omega: float, training: bool) -> tuple[int, ...]:
    """The model's durations; in training, with probability ``omega``, none, which stands for RNN-T."""
    return () if training and omega > 0.0 and float(torch.rand(())) < omega else model.durations


def sum_alignments(
    arcs: Arcs, frame_lens_B: Tensor, token_lens_B: Tensor, durations: tuple[int, ...], config: TdtConfig, best: bool = False,
    first_BS: Tensor | None = None,
) -> LatticeOut:
    """Over the alignments of TDT with ``durations``, or over those of RNN-T where there are none; inside windows where given."""
    lens = frame_lens_B, token_lens_B
    if not durations:
        return forward_backward(arcs.blank_BSW, arcs.label_BSW, *lens, "regular", best, first_BS, config.engine)
    tokens = arcs.blank_BSW - config.sigma, arcs.label_BSW - config.sigma
    return tdt_forward_backward(*tokens, arcs.duration_LBSW, *lens, durations, best, first_BS, config.engine)
