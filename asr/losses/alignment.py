"""Where a transducer emits each token of a transcript: the most probable path through the lattice that the losses sum over."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asr.losses.arcs import all_arcs
from asr.losses.lattice import Topology, forward_backward
from asr.losses.tdt_lattice import tdt_forward_backward
from asr.models.transducer import Transducer
from asr.types import EncoderOut, Targets

NOWHERE = -1
"""Stands for the frame of a token of padding, or of an utterance without an alignment."""


class Alignment(NamedTuple):
    """log_prob_B: of the best alignment, -inf where there is none.
    frames_BU: int64 encoder frame at which each token is emitted, or ``NOWHERE``.
    durations_BU: int64 number of frames by which the token advances; None for models without durations.
    """

    log_prob_B: Tensor
    frames_BU: Tensor
    durations_BU: Tensor | None


@torch.no_grad()
def align(model: Transducer, encoder_out: EncoderOut, targets: Targets, topology: Topology = "regular") -> Alignment:
    """The best alignment of each transcript. ``topology`` is of no meaning to a model with durations."""
    arcs, lens = all_arcs(model, encoder_out, targets), (encoder_out.lens_B, targets.lens_B)
    if not model.durations:
        out = forward_backward(arcs.blank_BSW, arcs.label_BSW, *lens, topology, best=True)
        return Alignment(out.log_prob_B, _frames(out.label_posterior_BSW), None)
    tdt = tdt_forward_backward(*arcs, *lens, model.durations, best=True)
    frames_BU = _frames(tdt.label_posterior_BSW)
    # An alignment leaves a node once: where it does so by a label, the duration is the label's.
    utterance_B1, token_U = torch.arange(len(frames_BU), device=frames_BU.device).unsqueeze(1), torch.arange(frames_BU.shape[1])
    taken_LBU = tdt.duration_posterior_LBSW[:, utterance_B1, frames_BU, token_U.to(frames_BU.device)]
    durations_BU = torch.tensor(model.durations, device=frames_BU.device)[taken_LBU.argmax(dim=0)]
    return Alignment(tdt.log_prob_B, frames_BU, durations_BU.masked_fill(frames_BU == NOWHERE, NOWHERE))


def _frames(taken_BSW: Tensor) -> Tensor:
    """(B, U): the frame at which each label is taken."""
    taken_BSU = taken_BSW[:, :, :-1]
    return taken_BSU.argmax(dim=1).masked_fill(~taken_BSU.any(dim=1), NOWHERE)
