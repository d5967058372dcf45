"""The RNN-T loss, summed over all alignments: Graves, "Sequence Transduction with Recurrent Neural Networks", 2012."""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from asr.config import Config as BaseConfig
from asr.losses.arcs import window_arcs
from asr.losses.lattice import Topology, forward_backward
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets


class Rnnt(nn.Module):
    """-log P(transcript), the joiner evaluated at every pair of a frame and a token: exact, and memory for B x S x U x V logits."""

    class Config(BaseConfig):
        type: Literal["rnnt"] = "rnnt"
        weight: float = Field(default=1.0, gt=0)
        topology: Topology = "regular"

    def __init__(self, config: "Rnnt.Config", model: Transducer) -> None:
        super().__init__()
        self.config = config

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        predictor_BWD = model.predictor(targets.tokens_BU)
        everything_BS = torch.zeros(encoder_out.frames_BSD.shape[:2], dtype=torch.int64, device=targets.tokens_BU.device)
        arcs = window_arcs(model.joiner, encoder_out, predictor_BWD, targets, everything_BS, width=predictor_BWD.shape[1])
        return LossOut(-forward_backward(*arcs, encoder_out.lens_B, targets.lens_B, self.config.topology).log_prob_B)
