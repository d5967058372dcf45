"""The RNN-T loss, summed over all alignments: Graves, "Sequence Transduction with Recurrent Neural Networks", 2012."""
from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.losses.arcs import all_arcs, delay_penalised, need_durations
from asr.losses.engines import Engine
from asr.losses.lattice import Topology, forward_backward
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets


class Rnnt(nn.Module):
    """-log P(transcript), the joiner evaluated at every pair of a frame and a token: exact, and slow."""

    class Config(BaseConfig):
        """delay_penalty: per frame by which a label comes late, log-probability taken from it (:func:`delay_penalised`).
        alignments: sum over all, or the best alone (the Viterbi approximation).
        engine: what sums over the alignments, see engines.py; all give the same numbers.
        """

        type: Literal["rnnt"] = "rnnt"
        weight: float = Field(default=1.0, gt=0)
        topology: Topology = "regular"
        delay_penalty: float = Field(default=0.0, ge=0)
        alignments: Literal["all", "best"] = "all"
        engine: Engine = "auto"

    def __init__(self, config: "Rnnt.Config", model: Transducer) -> None:
        need_durations(model, "rnnt", wanted=False)
        super().__init__()
        self.config = config

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        return LossOut(self.nll(encoder_out, targets, model))

    def nll(self, encoder_out: EncoderOut, targets: Targets, model: Transducer) -> Tensor:
        """The loss (B,), which the model alone decides."""
        arcs = all_arcs(model, encoder_out, targets)
        label_BSW = delay_penalised(arcs.label_BSW, encoder_out.lens_B, self.config.delay_penalty)
        out = forward_backward(
            arcs.blank_BSW, label_BSW, encoder_out.lens_B, targets.lens_B, self.config.topology,
            best=self.config.alignments == "best", engine=self.config.engine,
        )
        return -out.log_prob_B
