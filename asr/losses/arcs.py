"""Log-probabilities of a transducer's blank and label arcs, computed from the joiner in a window of tokens around each frame.

Shape legend: asr/types.py; W is U + 1, R the width of the window, J the joiner's dimension;
N counts the frames of all utterances, so that no arithmetic is spent on padding.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.losses.lattice import IMPOSSIBLE
from asr.models.joiner import Joiner
from asr.types import BLANK, EncoderOut, Targets


class Arcs(NamedTuple):
    """Log-probabilities (B, S, W) of the two arcs that leave each node, -inf outside the window."""

    blank_BSW: Tensor
    label_BSW: Tensor


def valid_frames(encoder_out: EncoderOut) -> Tensor:
    """(B, S) bool: which frames are not padding."""
    frames = encoder_out.frames_BSD.shape[1]
    return torch.arange(frames, device=encoder_out.lens_B.device) < encoder_out.lens_B.unsqueeze(1)


def zero_padding(encoder_out: EncoderOut) -> Tensor:
    """The frames (B, S, D) with zeros as padding, so that whatever was there reaches neither value nor gradient."""
    return encoder_out.frames_BSD.masked_fill(~valid_frames(encoder_out).unsqueeze(2), 0.0)


def next_tokens(targets: Targets) -> Tensor:
    """(B, W): the token that a label arc at each row emits; blank in the last row, which has none."""
    return F.pad(targets.tokens_BU, (0, 1), value=BLANK)


def window_arcs(
    joiner: Joiner, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, first_BS: Tensor, width: int
) -> Arcs:
    """Arcs of the nodes (s, u) with first_BS[b, s] <= u < first_BS[b, s] + width.

    first_BS: int64 in 0 ... W - width.
    """
    batch, frames = first_BS.shape
    rows = predictor_BWD.shape[1]
    valid_BS = valid_frames(encoder_out)
    utterance_N1, frame_N1 = (index.unsqueeze(1) for index in valid_BS.nonzero(as_tuple=True))
    row_NR = first_BS[valid_BS].unsqueeze(1) + torch.arange(width, device=first_BS.device)

    encoder_NJ = joiner.project_encoder(encoder_out.frames_BSD[valid_BS])
    # An embedding look-up is the gather whose backward is fast on a CPU.
    predictor_NRJ = F.embedding(utterance_N1 * rows + row_NR, joiner.project_predictor(predictor_BWD).flatten(0, 1))
    logits_NRV = joiner(encoder_NJ.unsqueeze(1), predictor_NRJ)
    blank_NR, label_NR = _ArcLogProbs.apply(logits_NRV, next_tokens(targets)[utterance_N1, row_NR])

    outside_BSW = blank_NR.new_full((batch, frames, rows), IMPOSSIBLE)
    nodes = (utterance_N1, frame_N1, row_NR)
    return Arcs(outside_BSW.index_put(nodes, blank_NR), outside_BSW.index_put(nodes, label_NR))


class _ArcLogProbs(torch.autograd.Function):
    """Log-softmax of the logits at blank and at one label. It never stores the other V - 2, and its backward fills one tensor only."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Any:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        normalizer = wide.logsumexp(dim=-1)
        ctx.save_for_backward(logits, normalizer, labels)
        return wide[..., BLANK] - normalizer, wide.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - normalizer

    @staticmethod
    def backward(ctx: Any, blank_grad: Tensor, label_grad: Tensor) -> Any:  # type: ignore[override]
        logits, normalizer, labels = ctx.saved_tensors
        grad = (logits - normalizer.unsqueeze(-1)).exp_().mul_(-(blank_grad + label_grad).unsqueeze(-1))
        grad[..., BLANK] += blank_grad
        grad.scatter_add_(-1, labels.unsqueeze(-1), label_grad.unsqueeze(-1))
        return grad.to(logits.dtype), None
