"""Where a model emits each token of a transcript: the most probable path through the lattice that its loss sums over."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.losses.arcs import all_arcs
from asr.losses.lattice import Topology, forward_backward, tdt_forward_backward
from asr.losses.paths import IMPOSSIBLE
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, Targets

NOWHERE = -1
"""Stands for the frame of a token of padding, or of an utterance without an alignment."""


class Alignment(NamedTuple):
    """log_prob_B: of the best alignment, -inf where there is none.
    frames_BU: int64 encoder frame at which each token is emitted, or ``NOWHERE``.
    durations_BU: int64 number of frames by which the token advances; None for transducers without durations.
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
    assert tdt.duration_posterior_LBSW is not None
    # An alignment leaves a node once: where it does so by a label, the duration is the label's.
    utterance_B1, token_U = torch.arange(len(frames_BU), device=frames_BU.device).unsqueeze(1), torch.arange(frames_BU.shape[1])
    taken_LBU = tdt.duration_posterior_LBSW[:, utterance_B1, frames_BU, token_U.to(frames_BU.device)]
    durations_BU = torch.tensor(model.durations, device=frames_BU.device)[taken_LBU.argmax(dim=0)]
    return Alignment(tdt.log_prob_B, frames_BU, durations_BU.masked_fill(frames_BU == NOWHERE, NOWHERE))


def _frames(taken_BSW: Tensor) -> Tensor:
    """(B, U): the frame at which each label is taken."""
    taken_BSU = taken_BSW[:, :, :-1]
    return taken_BSU.argmax(dim=1).masked_fill(~taken_BSU.any(dim=1), NOWHERE)


@torch.no_grad()
def align_ctc(model: Transducer, encoder_out: EncoderOut, targets: Targets) -> Alignment:
    """The best path of the CTC head through each transcript (Viterbi over blanks and tokens in turn; Graves et al., ICML 2006,
    section 4.1). A token's frame is where its run of labels starts, and its duration is the length of the run.

    Legend: E = 2U + 1 states, the even ones blank, state 2u + 1 token u.
    """
    tokens_BU, lens_B = targets.tokens_BU, encoder_out.lens_B
    batch, frames = encoder_out.frames_BSD.shape[:2]
    state_E = torch.arange(2 * tokens_BU.shape[1] + 1, device=tokens_BU.device)
    label_BE = torch.full((batch, len(state_E)), BLANK, device=tokens_BU.device)
    label_BE[:, 1::2] = tokens_BU
    log_probs_BSV = model.ctc_log_probs(encoder_out).float()
    emitted_BSE = log_probs_BSV.gather(2, label_BE.unsqueeze(1).expand(-1, frames, -1))
    no_skip_BE = (state_E % 2 == 0) | (F.pad(label_BE, (2, 0), value=BLANK)[:, :-2] == label_BE) | (state_E < 2)

    score_BE = emitted_BSE.new_full(label_BE.shape, IMPOSSIBLE).masked_fill(state_E == 0, 0.0)  # so that frame 0 is in state 0 or 1
    moves: list[Tensor] = []  # by how many states each frame went on, to each state
    for frame in range(frames):
        arriving_3BE = torch.stack([
            score_BE, F.pad(score_BE, (1, 0), value=IMPOSSIBLE)[:, :-1],
            F.pad(score_BE, (2, 0), value=IMPOSSIBLE)[:, :-2].masked_fill(no_skip_BE, IMPOSSIBLE),
        ])
        best_BE, move_BE = arriving_3BE.max(dim=0)
        inside_B1 = (frame < lens_B).unsqueeze(1)
        moves.append(move_BE.masked_fill(~inside_B1, 0))
        score_BE = torch.where(inside_B1, best_BE + emitted_BSE[:, frame], score_BE)

    last_B2 = 2 * targets.lens_B.unsqueeze(1) - torch.arange(2, device=lens_B.device)  # the blank at the end, or the token before it
    end_B2 = score_BE.gather(1, last_B2.clamp(min=0)).masked_fill(last_B2 < 0, IMPOSSIBLE)
    log_prob_B, which_B = end_B2.max(dim=1)
    place_B1 = last_B2.gather(1, which_B.unsqueeze(1)).clamp(min=0)
    places: list[Tensor] = []
    for move_BE in reversed(moves):
        places.insert(0, place_B1)
        place_B1 = (place_B1 - move_BE.gather(1, place_B1)).clamp(min=0)
    valid_BS1 = (torch.arange(frames, device=lens_B.device) < lens_B.unsqueeze(1)).unsqueeze(2)
    possible_B11 = (log_prob_B > IMPOSSIBLE).view(-1, 1, 1)
    taken_BSU = (torch.cat(places, dim=1).unsqueeze(2) == state_E[1::2]) & valid_BS1 & possible_B11
    durations_BU = taken_BSU.sum(dim=1)
    nowhere_BU = durations_BU == 0
    frames_BU = taken_BSU.long().argmax(dim=1)
    return Alignment(log_prob_B, frames_BU.masked_fill(nowhere_BU, NOWHERE), durations_BU.masked_fill(nowhere_BU, NOWHERE))
