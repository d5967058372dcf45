"""The sum over all alignments of a transducer, by the forward-backward algorithm in log space.

A lattice has nodes (s, u): s frames consumed and u tokens emitted. An alignment is a path from (0, 0) to (S, U); blanks lead to
frames ahead, labels to the next token as well. By how many frames is what tells transducers apart (:class:`Moves`):

RNN-T: from (s, u) a blank leads to (s + 1, u) and a label to (s, u + 1) in the ``regular`` topology (Graves, "Sequence Transduction
with Recurrent Neural Networks", 2012, section 2.4), or to (s + 1, u + 1) in the other two, which emit at most one label per frame:
``modified`` (Kuang et al., "Pruned RNN-T", 2022) is the recurrent neural aligner of Sak et al. (Interspeech 2017); in
``constrained``, as k2 defines it, the label is followed by the blank of (s, u + 1), so that a model of the regular topology is held to
one label per frame.

TDT (Xu et al., "Efficient sequence transduction by jointly predicting tokens and durations", ICML 2023): a blank of duration d > 0
leads to (s + d, u), a label of duration d to (s + d, u + 1). The last arc is a blank: as in the paper, durations add up to S exactly,
no label leads to the end and nothing beyond it. A blank of duration 0 would lead nowhere, and does not exist.

Shape legend: asr/types.py; L counts durations, W the rows of a frame: u = 0 ... U, or those of a window that begins at
u = first_BS[b, s], where arcs are given inside windows only and all others are impossible.
"""
from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.losses.engines import Engine, Moves, load_engine
from asr.losses.paths import IMPOSSIBLE
from asr.losses.torch_engine import best_path

Topology = Literal["regular", "modified", "constrained"]

TOPOLOGIES = {
    "regular": Moves(blank=(1,), label=(0,), label_ends=False),
    "modified": Moves(blank=(1,), label=(1,), label_ends=True),
    "constrained": Moves(blank=(1,), label=(1,), label_ends=True),
}


class LatticeOut(NamedTuple):
    """log_prob_B: of all alignments together (or of the best), -inf where there is none; differentiable.

    blank_posterior_BSW, label_posterior_BSW, duration_posterior_LBSW: the probability that an alignment leaves the node so, given the
    transcript; constants, zero in padding and for utterances without an alignment. Those of durations are None in RNN-T. In the
    constrained topology the blank that follows a label counts as part of the label.
    """

    log_prob_B: Tensor
    blank_posterior_BSW: Tensor
    label_posterior_BSW: Tensor
    duration_posterior_LBSW: Tensor | None


def forward_backward(
    blank_BSW: Tensor, label_BSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor, topology: Topology, best: bool = False,
    first_BS: Tensor | None = None, engine: Engine = "auto",
) -> LatticeOut:
    """Sums over all alignments of RNN-T, or takes the best, which is the work of the torch engine whatever ``engine`` says.

    blank_BSW, label_BSW: float32 or float64 log-probabilities of the two arcs that leave each node; label_BSW is that of token
        u (from 0), so that of u = U is ignored. Padding may hold anything, NaN included.
    frame_lens_B, token_lens_B: int64 lengths of each utterance.
    first_BS: int64 first u of each frame's window: 0 at the first frame, never falling from one frame to the next.
    """
    if topology == "constrained":
        label_BSW = label_BSW + F.pad(blank_BSW[:, :, 1:], (0, 1), value=IMPOSSIBLE)
    windows = _everything(blank_BSW) if first_BS is None else first_BS
    return LatticeOut(*_SumPaths.apply(blank_BSW, label_BSW, None, windows, frame_lens_B, token_lens_B, TOPOLOGIES[topology], best, engine))


def tdt_forward_backward(
    blank_BSW: Tensor, label_BSW: Tensor, duration_LBSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
    durations: tuple[int, ...], best: bool = False, first_BS: Tensor | None = None, engine: Engine = "auto",
) -> LatticeOut:
    """Sums over all alignments of TDT, or takes the best; as :func:`forward_backward`.

    blank_BSW, label_BSW: log-probabilities of blank and of the next token at each node.
    duration_LBSW: those of the ``durations``, which are in frames and ascend. Padding may hold anything in all three.
    """
    moves = Moves(blank=durations, label=durations, label_ends=False)
    windows = _everything(blank_BSW) if first_BS is None else first_BS
    return LatticeOut(*_SumPaths.apply(blank_BSW, label_BSW, duration_LBSW, windows, frame_lens_B, token_lens_B, moves, best, engine))


def _everything(blank_BSW: Tensor) -> Tensor:
    return torch.zeros(blank_BSW.shape[:2], dtype=torch.int64, device=blank_BSW.device)


def _not_a_number(
    blank_BSW: Tensor, label_BSW: Tensor, duration_LBSW: Tensor | None, first_BS: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor
) -> Tensor:
    """bool (B,): whether a score of the utterance, not of padding, is NaN."""
    _, frames, width = blank_BSW.shape
    device = blank_BSW.device
    tokens_B11 = token_lens_B.view(-1, 1, 1)
    place_BSW = first_BS.unsqueeze(-1) + torch.arange(width, device=device)
    broken_BSW = blank_BSW.isnan() | (label_BSW.isnan() & (place_BSW < tokens_B11))
    if duration_LBSW is not None:
        broken_BSW |= duration_LBSW.isnan().any(0)
    real_BS1 = (torch.arange(frames, device=device) < frame_lens_B.unsqueeze(-1)).unsqueeze(-1)
    return (broken_BSW & real_BS1 & (place_BSW <= tokens_B11)).flatten(1).any(1)


class _SumPaths(torch.autograd.Function):
    """The derivative of the log-probability by that of an arc is the arc's posterior (Graves, eq. 20)."""

    @staticmethod
    def forward(
        ctx: Any, blank_BSW: Tensor, label_BSW: Tensor, duration_LBSW: Tensor | None, first_BS: Tensor, frame_lens_B: Tensor,
        token_lens_B: Tensor, moves: Moves, best: bool, engine: Engine,
    ) -> Any:
        solve = best_path if best else load_engine(engine, blank_BSW.device)
        arcs = blank_BSW, label_BSW, duration_LBSW, first_BS, frame_lens_B, token_lens_B
        log_prob_B, *posteriors = solve(*arcs, moves)
        log_prob_B = log_prob_B.masked_fill(_not_a_number(*arcs), float("nan"))  # else it would seem to have no alignment
        ctx.save_for_backward(*posteriors)
        ctx.mark_non_differentiable(*(posterior for posterior in posteriors if posterior is not None))
        return log_prob_B, *posteriors

    @staticmethod
    def backward(ctx: Any, grad_B: Tensor, *_: Tensor) -> Any:  # type: ignore[override]
        grad_B11 = grad_B.view(-1, 1, 1)
        return *(None if x is None else x * grad_B11 for x in ctx.saved_tensors), None, None, None, None, None, None
