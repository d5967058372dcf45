"""The sum over all alignments of a transducer, by the forward-backward algorithm in log space.

A lattice has nodes (s, u): s frames consumed and u tokens emitted. From (s, u) a blank leads to (s + 1, u) and a label
to (s, u + 1) in the ``regular`` topology (Graves, "Sequence Transduction with Recurrent Neural Networks", 2012, section 2.4),
or to (s + 1, u + 1) in the other two, which emit at most one label per frame: ``modified`` (Kuang et al., "Pruned RNN-T", 2022)
is the recurrent neural aligner of Sak et al. (Interspeech 2017); in ``constrained``, as k2 defines it, the label is followed by the
blank of (s, u + 1), so that a model of the regular topology is held to one label per frame.
An alignment is a path from (0, 0) to (S, U).

Shape legend: asr/types.py; W is U + 1 and K counts the steps of the recursion: every arc leads from step k to k + 1.
With at most one label per frame a step is a frame. In the regular topology it is an anti-diagonal, k = s + u: skewed so, a label
is once more an arc to the next step, and one recursion serves all, vectorised over utterances and tokens.
"""
from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.losses.paths import IMPOSSIBLE, Lattice, best_path

Topology = Literal["regular", "modified", "constrained"]


class LatticeOut(NamedTuple):
    """log_prob_B: of all alignments together (or of the best), -inf where there is none; differentiable.

    blank_posterior_BSW, label_posterior_BSW: the probability that an alignment takes the arc, given the transcript; constants,
    zero in padding and for utterances without an alignment. In the constrained topology the blank that follows a label counts as
    part of the label.
    """

    log_prob_B: Tensor
    blank_posterior_BSW: Tensor
    label_posterior_BSW: Tensor


def forward_backward(
    blank_BSW: Tensor, label_BSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor, topology: Topology, best: bool = False
) -> LatticeOut:
    """Sums over all alignments, or takes the best.

    blank_BSW, label_BSW: float32 or float64 log-probabilities of the two arcs that leave each node; label_BSW[b, s, u] is token u
        (from 0), so its last column is ignored. Padding may hold anything, NaN included.
    frame_lens_B, token_lens_B: int64 lengths of each utterance.
    """
    if topology == "constrained":
        label_BSW = label_BSW + F.pad(blank_BSW[:, :, 1:], (0, 1))
    return LatticeOut(*_ForwardBackward.apply(blank_BSW, label_BSW, frame_lens_B, token_lens_B, topology == "regular", best))


class _ForwardBackward(torch.autograd.Function):
    """The derivative of the log-probability by an arc's is the arc's posterior (Graves, eq. 20)."""

    @staticmethod
    def forward(
        ctx: Any, blank_BSW: Tensor, label_BSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor, regular: bool, best: bool
    ) -> Any:
        batch, frames, width = blank_BSW.shape
        exists_BS1 = (torch.arange(frames, device=blank_BSW.device) < frame_lens_B.unsqueeze(1)).unsqueeze(2)
        token_W = torch.arange(width, device=blank_BSW.device)
        no_blank_BSW = ~(exists_BS1 & (token_W <= token_lens_B.view(-1, 1, 1)))
        no_label_BSW = ~(exists_BS1 & (token_W < token_lens_B.view(-1, 1, 1)))
        blank_KBW = to_steps(blank_BSW.masked_fill(no_blank_BSW, IMPOSSIBLE), regular)
        label_KBW = to_steps(label_BSW.masked_fill(no_label_BSW, IMPOSSIBLE), regular)

        end_B = frame_lens_B + token_lens_B if regular else frame_lens_B
        if best:
            log_prob_B, (blank_posterior_KBW, label_posterior_KBW) = best_path(
                Lattice(torch.stack([blank_KBW, label_KBW]), (1,), (1,), end_B, token_lens_B)
            )
        else:
            log_prob_B, blank_posterior_KBW, label_posterior_KBW = _all_paths(blank_KBW, label_KBW, end_B, token_lens_B)
        blank_posterior_BSW = from_steps(blank_posterior_KBW, frames, regular).masked_fill(no_blank_BSW, 0.0)
        label_posterior_BSW = from_steps(label_posterior_KBW, frames, regular).masked_fill(no_label_BSW, 0.0)
        ctx.save_for_backward(blank_posterior_BSW, label_posterior_BSW)
        ctx.mark_non_differentiable(blank_posterior_BSW, label_posterior_BSW)
        return log_prob_B, blank_posterior_BSW, label_posterior_BSW

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor, *_: Tensor) -> Any:  # type: ignore[override]
        blank_posterior_BSW, label_posterior_BSW = ctx.saved_tensors
        grad_B11 = grad_B.view(-1, 1, 1)
        return blank_posterior_BSW * grad_B11, label_posterior_BSW * grad_B11, None, None, None, None


def _all_paths(blank_KBW: Tensor, label_KBW: Tensor, end_B: Tensor, token_lens_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`asr.losses.paths.all_paths` computes, faster, where every arc advances by one step."""
    # An utterance that has ended waits in its last node, at no cost, for the longest one.
    steps, _, width = blank_KBW.shape
    ended_KB = torch.arange(steps, device=end_B.device).unsqueeze(1) >= end_B
    last_BW = torch.arange(width, device=end_B.device) == token_lens_B.unsqueeze(1)
    blank_KBW.masked_fill_(ended_KB.unsqueeze(2) & last_BW, 0.0)

    forward_KBW = _forward(blank_KBW, label_KBW)
    backward_KBW = _backward(blank_KBW, label_KBW, token_lens_B)
    log_prob_B = forward_KBW[-1, :, 1:].gather(1, token_lens_B.unsqueeze(1)).squeeze(1)

    before_KBW = forward_KBW[:-1, :, 1:] - log_prob_B.masked_fill(log_prob_B == IMPOSSIBLE, 0.0).unsqueeze(1)
    blank_posterior_KBW = (before_KBW + blank_KBW + backward_KBW[1:, :, :-1]).exp_()
    label_posterior_KBW = (before_KBW + label_KBW + backward_KBW[1:, :, 1:]).exp_()
    return log_prob_B, blank_posterior_KBW, label_posterior_KBW


def _forward(blank_KBW: Tensor, label_KBW: Tensor) -> Tensor:
    """Forward variables (K + 1, B, 1 + W) with a column of -inf before token 0 (Graves, eq. 16)."""
    steps, batch, width = blank_KBW.shape
    forward = blank_KBW.new_full((steps + 1, batch, width + 1), IMPOSSIBLE)
    forward[0, :, 1] = 0.0
    arriving_KBW = F.pad(label_KBW[:, :, :-1], (1, 0), value=IMPOSSIBLE)
    for k in range(steps):
        torch.logaddexp(forward[k, :, 1:] + blank_KBW[k], forward[k, :, :-1] + arriving_KBW[k], out=forward[k + 1, :, 1:])
    return forward


def _backward(blank_KBW: Tensor, label_KBW: Tensor, token_lens_B: Tensor) -> Tensor:
    """Backward variables (K + 1, B, W + 1) with a column of -inf after the last token (Graves, eq. 18)."""
    steps, batch, width = blank_KBW.shape
    backward = blank_KBW.new_full((steps + 1, batch, width + 1), IMPOSSIBLE)
    backward[steps].scatter_(1, token_lens_B.unsqueeze(1), 0.0)
    for k in range(steps - 1, -1, -1):
        torch.logaddexp(backward[k + 1, :, :-1] + blank_KBW[k], backward[k + 1, :, 1:] + label_KBW[k], out=backward[k, :, :-1])
    return backward


def to_steps(x_BSW: Tensor, regular: bool) -> Tensor:
    """(B, S, W) to contiguous (K, B, W); in the regular topology out[s + u, b, u] = x[b, s, u], and -inf elsewhere."""
    x_BWS = x_BSW.transpose(1, 2)
    if regular:
        # A row of S + W numbers read as rows of S + W - 1 shifts row u to the right by u.
        batch, width, frames = x_BWS.shape
        flat = F.pad(x_BWS, (0, width), value=IMPOSSIBLE).flatten(1)
        x_BWS = flat[:, : width * (frames + width - 1)].view(batch, width, frames + width - 1)
    return x_BWS.permute(2, 0, 1).contiguous()


def from_steps(x_KBW: Tensor, frames: int, regular: bool) -> Tensor:
    """The inverse of :func:`to_steps`."""
    x_BWK = x_KBW.permute(1, 2, 0)
    if regular:
        batch, width, steps = x_BWK.shape
        x_BWK = F.pad(x_BWK.flatten(1), (0, width)).view(batch, width, steps + 1)
    return x_BWK[:, :, :frames].transpose(1, 2)
