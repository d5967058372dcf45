"""The CTC loss on the encoder's CTC head: Graves et al., "Connectionist temporal classification", ICML 2006."""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.losses.arcs import zero_padding
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, LossOut, Targets


class Ctc(nn.Module):
    """-log P(transcript) under the CTC head."""

    class Config(BaseConfig):
        type: Literal["ctc"] = "ctc"
        weight: float = Field(default=1.0, gt=0)

    def __init__(self, config: "Ctc.Config", model: Transducer) -> None:
        super().__init__()
        if model.ctc is None:
            raise ValueError("losses: a ctc loss needs a CTC head; add 'ctc: {}' to the model's config")
        self.config = config

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        log_probs_BSV = model.ctc_log_probs(EncoderOut(zero_padding(encoder_out), encoder_out.lens_B))
        # zero_infinity keeps NaN out of the gradients of utterances without an alignment; their loss is infinite all the same.
        nll_B = F.ctc_loss(
            log_probs_BSV.transpose(0, 1), targets.tokens_BU, encoder_out.lens_B, targets.lens_B,
            blank=BLANK, reduction="none", zero_infinity=True,
        )
        impossible_B = encoder_out.lens_B < frames_needed(targets)
        return LossOut(torch.where(impossible_B, nll_B.new_full((), float("inf")), nll_B))


def frames_needed(targets: Targets) -> Tensor:
    """(B,) the fewest frames that can spell each transcript: one per token, and a blank between two that are equal."""
    tokens_BU = targets.tokens_BU
    inside_BU = torch.arange(tokens_BU.shape[1], device=tokens_BU.device)[1:] < targets.lens_B.unsqueeze(1)
    return targets.lens_B + ((tokens_BU[:, 1:] == tokens_BU[:, :-1]) & inside_BU).sum(dim=1)
