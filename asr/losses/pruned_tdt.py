"""The pruned loss of token-and-duration transducers: pruned RNN-T (Kuang et al., Interspeech 2022) carried over to TDT (Xu et al.,
ICML 2023). Shape legend: asr/types.py; W is U + 1, L the number of durations.
"""
from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from asr.losses.arcs import Arcs, need_durations, next_tokens, window_arcs
from asr.losses.pruned import PrunedLoss
from asr.losses.simple_joiner import pruning_window, reached_rows, smoothed_arcs, smoothed_durations
from asr.losses.tdt import TdtConfig, draw_durations, sum_alignments
from asr.models.transducer import Transducer
from asr.types import EncoderOut, Targets


class PrunedTdt(PrunedLoss):
    """The loss of a linear joiner and that of the joiner inside the windows that the linear one finds, see pruned.py.

    The linear joiner predicts durations as well as tokens, in the same way: the sum of a part from the encoder and one from the
    predictor. The windows follow the number of tokens that its alignments have emitted by each frame, and so are meaningful
    at frames that most of them jump over. An utterance whose transcript the windows cannot reach, U > S (range - 1), or U >= S where
    no duration is 0, is impossible.
    """

    class Config(PrunedLoss.Config, TdtConfig):
        type: Literal["pruned_tdt"] = "pruned_tdt"

    def __init__(self, config: "PrunedTdt.Config", model: Transducer) -> None:
        need_durations(model, "pruned_tdt", wanted=True)
        if 1 not in model.durations:
            raise ValueError("losses: pruned_tdt moves its windows frame by frame; add 1 to model.joiner.durations, or choose tdt")
        super().__init__(model)
        self.config: PrunedTdt.Config = config

    def losses(
        self, am_BSV: Tensor, lm_BWV: Tensor, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, model: Transducer
    ) -> tuple[Tensor, Tensor]:
        lens, scales = (encoder_out.lens_B, targets.lens_B), (self.config.am_scale, self.config.lm_scale)
        durations = draw_durations(model, self.config.omega, self.training)
        am_BSV, am_BSL = model.joiner.split(am_BSV)
        lm_BWV, lm_BWL = model.joiner.split(lm_BWV)
        rows = lm_BWV.shape[1]
        valid_BW = torch.arange(rows, device=lm_BWV.device) <= targets.lens_B.unsqueeze(1)
        arcs = Arcs(
            *smoothed_arcs(am_BSV, lm_BWV, next_tokens(targets), valid_BW, *scales),
            smoothed_durations(am_BSL, lm_BWL, valid_BW, *scales),
        )
        simple = sum_alignments(arcs, *lens, durations, self.config)
        width = min(self.config.range, rows)
        label_BSW = simple.label_posterior_BSW
        first_BS = pruning_window(
            reached_rows(label_BSW), label_BSW, *lens, width, step=width - 1 if 0 in model.durations else 1
        )
        arcs = window_arcs(model.joiner, encoder_out, predictor_BWD, targets, first_BS, width)
        return -simple.log_prob_B, -sum_alignments(arcs, *lens, durations, self.config, first_BS=first_BS).log_prob_B
