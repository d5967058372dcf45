"""The pruned RNN-T loss: Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", Interspeech 2022.

Our own, everywhere, and k2's where that is installed, compute the same numbers.
Shape legend: asr/types.py; W is U + 1.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from asr import fsa
from asr.losses.arcs import delay_penalised, need_durations, next_tokens, window_arcs
from asr.losses.engines import Engine
from asr.losses.lattice import LatticeOut, Topology, forward_backward
from asr.losses.pruned import PrunedLoss, wide
from asr.losses.simple_joiner import pruning_window, smoothed_arcs
from asr.models.joiner import Joiner
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, Targets


class PrunedRnnt(PrunedLoss):
    """The loss of a linear joiner and that of the joiner inside the windows that the linear one finds, see pruned.py.

    An utterance whose transcript the windows cannot reach, U > S (range - 1) (regular) or U > S (other topologies), is impossible.
    """

    class Config(PrunedLoss.Config):
        """delay_penalty: per frame by which a label comes late, see rnnt.py.
        engine: what sums over the alignments, see engines.py, or k2 for all of the loss; all give the same numbers.
        """

        type: Literal["pruned_rnnt"] = "pruned_rnnt"
        topology: Topology = "regular"
        delay_penalty: float = Field(default=0.0, ge=0)
        engine: Engine | Literal["k2"] = "auto"

    def __init__(self, config: "PrunedRnnt.Config", model: Transducer) -> None:
        need_durations(model, "pruned_rnnt", wanted=False)
        super().__init__(model)
        self.config: PrunedRnnt.Config = config

    def losses(
        self, am_BSV: Tensor, lm_BWV: Tensor, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, model: Transducer
    ) -> tuple[Tensor, Tensor]:
        losses = k2_losses if self.config.engine == "k2" else own_losses
        return losses(am_BSV, lm_BWV, encoder_out, predictor_BWD, targets, model.joiner, self.config)


def own_losses(
    am_BSV: Tensor, lm_BWV: Tensor, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, joiner: Joiner,
    config: PrunedRnnt.Config,
) -> tuple[Tensor, Tensor]:
    """The losses (B,) of the simple joiner and, within the windows, of the joiner."""
    lens = encoder_out.lens_B, targets.lens_B
    rows = lm_BWV.shape[1]
    valid_BW = torch.arange(rows, device=lm_BWV.device) <= targets.lens_B.unsqueeze(1)

    def summed(blank_BSW: Tensor, label_BSW: Tensor, first_BS: Tensor | None = None) -> LatticeOut:
        label_BSW = delay_penalised(label_BSW, lens[0], config.delay_penalty)
        assert config.engine != "k2"
        return forward_backward(blank_BSW, label_BSW, *lens, config.topology, first_BS=first_BS, engine=config.engine)

    simple = summed(*smoothed_arcs(am_BSV, lm_BWV, next_tokens(targets), valid_BW, config.am_scale, config.lm_scale))
    width = min(config.range, rows)
    first_BS = pruning_window(
        simple.blank_posterior_BSW, simple.label_posterior_BSW, *lens, width, step=width - 1 if config.topology == "regular" else 1
    )
    arcs = window_arcs(joiner, encoder_out, predictor_BWD, targets, first_BS, width)
    return -simple.log_prob_B, -summed(arcs.blank_BSW, arcs.label_BSW, first_BS).log_prob_B


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
                              "rnnt_type": config.topology, "delay_penalty": config.delay_penalty, "reduction": "none"}
    simple_B, posteriors = k2.rnnt_loss_smoothed(
        lm=lm_BWV, am=am_BSV, lm_only_scale=config.lm_scale, am_only_scale=config.am_scale, return_grad=True, **common
    )
    ranges_BSR = k2.get_rnnt_prune_ranges(*posteriors, boundary=boundary_B4, s_range=config.range)
    am_BSRJ, lm_BSRJ = k2.do_rnnt_pruning(
        am=joiner.project_encoder(frames_BSD), lm=joiner.project_predictor(predictor_BWD), ranges=ranges_BSR
    )
    pruned_B = k2.rnnt_loss_pruned(logits=wide(joiner(am_BSRJ, lm_BSRJ)), ranges=ranges_BSR, **common)
    return simple_B, pruned_B


def _lengthen(x_BND: Tensor, length: int) -> Tensor:
    return F.pad(x_BND, (0, 0, 0, max(0, length - x_BND.shape[1])))
