"""The sum over all alignments of CTC, of any of its topologies, by the forward-backward algorithm in log space.

Graves et al., "Connectionist temporal classification", ICML 2006, section 4.1. An alignment is a walk of one state per frame. The
states of an utterance stand in a row: a blank, then each token followed by a blank; where repeats of a token are limited, the token
is a chain of states, one per frame that it may last. A walk goes from a state to itself or to one of the next few, at a price that
is the same at all frames, so a topology is a band of prices and one recursion serves all.

Shape legend: asr/types.py; J counts states, O offsets from a state to those from which it can be reached, itself (0) included.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.losses.paths import IMPOSSIBLE
from asr.types import BLANK, Targets


class CtcTopology(NamedTuple):
    """labels_BJ: int64 token of each state. arcs_BJO: log-weight of the arc to state j from state j - o, -inf where there is none.
    final_BJ: 0 where a walk may end, else -inf. It begins as if it came from state 0, the first blank."""

    labels_BJ: Tensor
    arcs_BJO: Tensor
    final_BJ: Tensor


def ctc_topology(
    targets: Targets, repeat_penalty: float = 0.0, max_repeats: int | None = None, dtype: torch.dtype = torch.float32
) -> CtcTopology:
    """The usual one, with a price on each frame that repeats the token of the frame before, and at most so many such frames in a row.

    Yang et al., "Blank-regularized CTC for frame skipping in neural transducer", Interspeech 2023: the soft and the hard
    restriction of the self-loops of non-blank symbols.
    """
    tokens_BU, device = targets.tokens_BU, targets.tokens_BU.device
    batch, tokens = tokens_BU.shape
    chain = 1 if max_repeats is None else max_repeats + 1  # states of a token
    group = chain + 1  # a blank and the token behind it
    labels_BUG = torch.cat([torch.full_like(tokens_BU, BLANK).unsqueeze(2), tokens_BU.unsqueeze(2).expand(-1, -1, chain)], dim=2)
    arcs_BWGO = torch.full((batch, tokens + 1, group, chain + 2), IMPOSSIBLE, dtype=dtype, device=device)
    arcs_BWGO[:, :, 0, 0] = 0.0  # blank after blank
    arcs_BWGO[:, 1:, 0, 1:group] = 0.0  # blank after any state of the token before it
    arcs_BWGO[:, :, 1, 1] = 0.0  # a token after blank
    differs_BU1 = (tokens_BU[:, 1:] != tokens_BU[:, :-1]).unsqueeze(2)
    arcs_BWGO[:, 1:tokens, 1, 2:].masked_fill_(differs_BU1, 0.0)  # after any state of another token
    if max_repeats is None:
        arcs_BWGO[:, :, 1, 0] = -repeat_penalty
    arcs_BWGO[:, :, 2:, 1] = -repeat_penalty
    states = tokens * group + 1
    state_J, last_B1 = torch.arange(states, device=device), targets.lens_B.unsqueeze(1) * group
    ends_BJ = (state_J <= last_B1) & (state_J >= last_B1 - chain)
    return CtcTopology(
        F.pad(labels_BUG.flatten(1), (0, 1), value=BLANK), arcs_BWGO.flatten(1, 2)[:, :states],
        torch.zeros(batch, states, dtype=dtype, device=device).masked_fill(~ends_BJ, IMPOSSIBLE),
    )


def ctc_log_prob(scores_BSV: Tensor, frame_lens_B: Tensor, topology: CtcTopology) -> Tensor:
    """(B,): the logarithm of the sum over all alignments of exp(their scores), -inf where there is none; differentiable.

    scores_BSV: float32 or float64, usually log-probabilities, but they need not be normalised. Padding may hold anything.
    """
    inside_BS1 = (torch.arange(scores_BSV.shape[1], device=frame_lens_B.device) < frame_lens_B.unsqueeze(1)).unsqueeze(2)
    labels_BSJ = topology.labels_BJ.unsqueeze(1).expand(-1, scores_BSV.shape[1], -1)
    states_BSJ = scores_BSV.masked_fill(~inside_BS1, 0.0).gather(2, labels_BSJ)
    return _LogProb.apply(states_BSJ, frame_lens_B, topology.arcs_BJO, topology.final_BJ)


class _LogProb(torch.autograd.Function):
    """The derivative by the score of a state at a frame is the posterior of being there (Graves et al., eq. 15)."""

    @staticmethod
    def forward(ctx: Any, scores_BSJ: Tensor, frame_lens_B: Tensor, arcs_BJO: Tensor, final_BJ: Tensor) -> Tensor:
        scores_SBJ = scores_BSJ.transpose(0, 1).contiguous()
        utterance_B = torch.arange(len(frame_lens_B), device=frame_lens_B.device)
        forward_SBJ = _forward(scores_SBJ, arcs_BJO)
        log_prob_B = (forward_SBJ[frame_lens_B, utterance_B] + final_BJ).logsumexp(dim=1)
        backward_SBJ = scores_SBJ.new_full(forward_SBJ.shape, IMPOSSIBLE)
        backward_SBJ[frame_lens_B, utterance_B] = final_BJ
        _backward(scores_SBJ, arcs_BJO, backward_SBJ)
        posterior_SBJ = forward_SBJ[1:] + backward_SBJ[1:] - log_prob_B.masked_fill(log_prob_B == IMPOSSIBLE, 0.0).unsqueeze(1)
        ctx.save_for_backward(posterior_SBJ.exp_())
        return log_prob_B

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor) -> Any:  # type: ignore[override]
        (posterior_SBJ,) = ctx.saved_tensors
        return (posterior_SBJ * grad_B.unsqueeze(1)).transpose(0, 1), None, None, None


def _forward(scores_SBJ: Tensor, arcs_BJO: Tensor) -> Tensor:
    """(S + 1, B, J): the sum of all walks over the first s frames that end in state j."""
    frames, batch, states = scores_SBJ.shape
    offsets = arcs_BJO.shape[2]
    padded = scores_SBJ.new_full((frames + 1, batch, offsets - 1 + states), IMPOSSIBLE)  # from states before the first one
    forward_SBJ = padded[:, :, offsets - 1 :]
    forward_SBJ[0, :, 0] = 0.0
    arcs_BJO = arcs_BJO.flip(2)  # a window of states has the farthest first
    for s in range(frames):
        arriving_BJO = padded[s].unfold(1, offsets, 1) + arcs_BJO
        torch.add(arriving_BJO.logsumexp(dim=2), scores_SBJ[s], out=forward_SBJ[s + 1])
    return forward_SBJ


def _backward(scores_SBJ: Tensor, arcs_BJO: Tensor, backward_SBJ: Tensor) -> None:
    """Fills in the sum of all walks from state j over the frames from s on; the ends of the utterances are there already."""
    frames, batch, states = scores_SBJ.shape
    offset_O = torch.arange(arcs_BJO.shape[2], device=arcs_BJO.device)
    state_JO = torch.arange(states, device=arcs_BJO.device).unsqueeze(1) + offset_O
    last = len(offset_O) - 1
    leaving_BJO = F.pad(arcs_BJO, (0, 0, 0, last), value=IMPOSSIBLE)[:, state_JO, offset_O]  # to state j + o
    for s in range(frames - 1, -1, -1):
        next_BJ = F.pad(scores_SBJ[s] + backward_SBJ[s + 1], (0, last), value=IMPOSSIBLE)
        found_BJ = (next_BJ.unfold(1, last + 1, 1) + leaving_BJO).logsumexp(dim=2)
        torch.maximum(backward_SBJ[s], found_BJ, out=backward_SBJ[s])
