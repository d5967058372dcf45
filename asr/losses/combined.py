"""The table of losses, and the weighted sum of those that a config names."""
from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import nn

from asr.config import one_of
from asr.losses.attention import AttentionLoss
from asr.losses.ctc import CrCtc, Ctc
from asr.losses.mvq import Mvq
from asr.losses.mwer import Mwer, NBest
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.pruned_tdt import PrunedTdt
from asr.losses.rnnt import Rnnt
from asr.losses.tdt import Tdt
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets

LOSSES: dict[str, Any] = {
    "rnnt": Rnnt, "pruned_rnnt": PrunedRnnt, "tdt": Tdt, "pruned_tdt": PrunedTdt, "mwer": Mwer, "ctc": Ctc, "cr_ctc": CrCtc, "mvq": Mvq,
    "attention": AttentionLoss,
}
LossConfig = one_of(LOSSES)


class Losses(nn.ModuleDict):
    """Several losses by name. ``total_B`` is their weighted sum; ``parts`` has each one's value, unweighted, under its name,
    and what it reports itself as ``<name>_<part>``. An utterance that one of them finds impossible is +inf in the total."""

    def __init__(self, losses: Mapping[str, nn.Module]) -> None:
        if not losses:
            raise ValueError("losses: name at least one, for example 'losses: {pruned_rnnt: {type: pruned_rnnt}}'")
        super().__init__(losses)

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        total_B = torch.zeros(len(targets.lens_B), device=targets.lens_B.device)
        parts = {}
        for name, loss in self.items():
            out: LossOut = loss(encoder_out, targets, model, step)
            total_B = total_B + loss.config.weight * out.total_B
            parts[name] = out.total_B.detach()
            parts.update({f"{name}_{part}": value for part, value in out.parts.items()})
        return LossOut(total_B, parts)


def build_losses(configs: Mapping[str, Any], model: Transducer, nbest: NBest | None = None) -> Losses:
    """The losses of an experiment; ``configs`` maps a name of the user's choice to a ``LossConfig``. nbest: what ``mwer`` needs."""
    losses = Losses({name: LOSSES[config.type](config, model) for name, config in configs.items()})
    for loss in losses.values():
        if isinstance(loss, Mwer):
            loss.nbest = nbest
    return losses
