"""The sum over all alignments of a token-and-duration transducer, by the forward-backward algorithm in log space.

Xu et al., "Efficient sequence transduction by jointly predicting tokens and durations", ICML 2023. A lattice has nodes
(s, u): s frames consumed and u tokens emitted. From (s, u) a blank of duration d > 0 leads to (s + d, u), a label of duration d to
(s + d, u + 1). An alignment is a path from (0, 0) to (S, U) whose last arc is a blank: as in the paper, durations add up to S
exactly, no label leads to the end and nothing beyond it. A blank of duration 0 would lead nowhere, and does not exist.

Shape legend: asr/types.py; W is U + 1, L counts durations, and K counts steps of the recursion as in lattice.py: anti-diagonals,
k = s + u, where a label may have duration 0, and frames where it may not. Every arc then leads to a later step.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from asr.losses.lattice import from_steps, to_steps
from asr.losses.paths import IMPOSSIBLE, Lattice, all_paths, best_path


class TdtOut(NamedTuple):
    """log_prob_B: of all alignments together (or of the best), -inf where there is none; differentiable.

    blank_posterior_BSW, label_posterior_BSW, duration_posterior_LBSW: the probability that an alignment leaves the node so, given
    the transcript; constants, zero in padding and for utterances without an alignment.
    """

    log_prob_B: Tensor
    blank_posterior_BSW: Tensor
    label_posterior_BSW: Tensor
    duration_posterior_LBSW: Tensor


def tdt_forward_backward(
    blank_BSW: Tensor, label_BSW: Tensor, duration_LBSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
    durations: tuple[int, ...], best: bool = False,
) -> TdtOut:
    """Sums over all alignments, or takes the best.

    blank_BSW, label_BSW: float32 or float64 log-probabilities of blank and of the next token at each node; label_BSW[b, s, u] is
        token u (from 0), so its last column is ignored.
    duration_LBSW: those of the ``durations``, in frames. Padding may hold anything, NaN included, in all three.
    frame_lens_B, token_lens_B: int64 lengths of each utterance.
    """
    return TdtOut(*_TdtForwardBackward.apply(blank_BSW, label_BSW, duration_LBSW, frame_lens_B, token_lens_B, durations, best))


class _TdtForwardBackward(torch.autograd.Function):
    """The derivative of the log-probability by that of a token or duration at a node is the posterior of taking it there."""

    @staticmethod
    def forward(
        ctx: Any, blank_BSW: Tensor, label_BSW: Tensor, duration_LBSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
        durations: tuple[int, ...], best: bool,
    ) -> Any:
        frames, skewed = blank_BSW.shape[1], durations[0] == 0
        lattice = _lattice(blank_BSW, label_BSW, duration_LBSW, frame_lens_B, token_lens_B, durations)
        log_prob_B, posterior_AKBW = best_path(lattice) if best else all_paths(lattice)
        blanks = len(lattice.blank_strides)
        blank_AKBW, label_AKBW = posterior_AKBW[:blanks], posterior_AKBW[blanks:]
        blank_posterior_BSW = from_steps(blank_AKBW.sum(dim=0), frames, skewed)
        label_posterior_BSW = from_steps(label_AKBW.sum(dim=0), frames, skewed)
        label_AKBW[-blanks:] += blank_AKBW
        duration_posterior_LBSW = torch.stack([from_steps(posterior_KBW, frames, skewed) for posterior_KBW in label_AKBW])
        posteriors = blank_posterior_BSW, label_posterior_BSW, duration_posterior_LBSW
        ctx.save_for_backward(*posteriors)
        ctx.mark_non_differentiable(*posteriors)
        return log_prob_B, *posteriors

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor, *_: Tensor) -> Any:  # type: ignore[override]
        grad_B11 = grad_B.view(-1, 1, 1)
        return *(posterior * grad_B11 for posterior in ctx.saved_tensors), None, None, None, None


def _lattice(
    blank_BSW: Tensor, label_BSW: Tensor, duration_LBSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor, durations: tuple[int, ...]
) -> Lattice:
    """One arc for blank with each positive duration, then one for the label with each duration."""
    batch, frames, width = blank_BSW.shape
    skewed = durations[0] == 0
    left_BS1 = (frame_lens_B.unsqueeze(1) - torch.arange(frames, device=blank_BSW.device)).unsqueeze(2)
    token_W, token_lens_B11 = torch.arange(width, device=blank_BSW.device), token_lens_B.view(-1, 1, 1)
    positive = durations[1:] if skewed else durations
    arcs = [(blank_BSW, d, (left_BS1 >= d) & (token_W <= token_lens_B11)) for d in positive]
    arcs += [(label_BSW, d, (left_BS1 > d) & (token_W < token_lens_B11)) for d in durations]
    steps = frames + width - 1 if skewed else frames
    weights_AKBW = blank_BSW.new_empty(len(arcs), steps, batch, width)
    for weights_KBW, (token_BSW, d, exists_BSW) in zip(weights_AKBW, arcs):
        arc_BSW = (token_BSW + duration_LBSW[durations.index(d)]).masked_fill(~exists_BSW, IMPOSSIBLE)
        weights_KBW.copy_(to_steps(arc_BSW, skewed))
    return Lattice(
        weights_AKBW, blank_strides=positive, label_strides=tuple(d + skewed for d in durations),
        last_step_B=frame_lens_B + token_lens_B if skewed else frame_lens_B, last_row_B=token_lens_B,
    )
