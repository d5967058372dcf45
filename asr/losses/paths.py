"""The sum and the maximum over all paths of a lattice whose arcs advance by one step or by several, in log space.

Nodes are (k, u): step k of the recursion, u tokens emitted. Arcs leave a node as blanks, to the same u, and as labels, to u + 1;
there may be several of both, each with a stride of its own, the number of steps by which it advances. A path runs from (0, 0) to
the last node of its utterance. What a step is, a frame or an anti-diagonal, is the business of torch_engine.py.

Shape legend: asr/types.py; W is U + 1, K counts steps and A arcs that leave a node, blanks before labels.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

IMPOSSIBLE = float("-inf")


class Lattice(NamedTuple):
    """weights_AKBW: log-probabilities of the arcs, at the node that each leaves; -inf where there is none; no NaN.
    blank_strides, label_strides: steps by which they advance, each at least 1.
    last_step_B, last_row_B: the node where paths end. No arc leaves it.
    """

    weights_AKBW: Tensor
    blank_strides: tuple[int, ...]
    label_strides: tuple[int, ...]
    last_step_B: Tensor
    last_row_B: Tensor


class Paths(NamedTuple):
    """log_prob_B: of the paths, -inf where there is none.
    posterior_AKBW: the share of the paths that take each arc; zero in utterances without a path.
    """

    log_prob_B: Tensor
    posterior_AKBW: Tensor


def all_paths(lattice: Lattice) -> Paths:
    """All paths by the forward-backward algorithm. The posteriors take the memory of the lattice's weights, which are lost."""
    weights_AKBW, blank_strides, label_strides, *_ = lattice
    steps, blanks = weights_AKBW.shape[1], len(blank_strides)
    forward_KBW = _forward(lattice, best=False)
    backward_KBW, above_KBW = _backward(lattice)
    log_prob_B = _last(forward_KBW, lattice)
    before_KBW = forward_KBW[:-1] - log_prob_B.masked_fill(log_prob_B == IMPOSSIBLE, 0.0).unsqueeze(1)
    for weights_KBW, stride in zip(weights_AKBW[:blanks], blank_strides):
        weights_KBW.add_(before_KBW).add_(backward_KBW[stride : stride + steps]).exp_()
    for weights_KBW, stride in zip(weights_AKBW[blanks:], label_strides):
        weights_KBW.add_(before_KBW).add_(above_KBW[stride : stride + steps]).exp_()
    return Paths(log_prob_B, weights_AKBW)


def best_path(lattice: Lattice) -> Paths:
    """The most probable path alone, by the Viterbi algorithm: its posteriors are 0 and 1."""
    weights_AKBW, blank_strides, label_strides, *_ = lattice
    device = weights_AKBW.device
    stride_A = torch.tensor([*blank_strides, *label_strides], device=device)
    rise_A = torch.tensor([0] * len(blank_strides) + [1] * len(label_strides), device=device)
    arc_A1, utterance_B = torch.arange(len(stride_A), device=device).unsqueeze(1), torch.arange(weights_AKBW.shape[2], device=device)
    forward_KBW = _forward(lattice, best=True)
    log_prob_B = _last(forward_KBW, lattice)
    taken_AKBW = torch.zeros_like(weights_AKBW)
    step_B, row_B = lattice.last_step_B.masked_fill(log_prob_B == IMPOSSIBLE, 0), lattice.last_row_B
    while bool((going_B := step_B > 0).any()):
        from_step_AB, from_row_AB = step_B - stride_A.unsqueeze(1), row_B - rise_A.unsqueeze(1)
        outside_AB = (from_step_AB < 0) | (from_row_AB < 0)
        from_step_AB, from_row_AB = from_step_AB.clamp(min=0), from_row_AB.clamp(min=0)
        score_AB = forward_KBW[from_step_AB, utterance_B, from_row_AB] + weights_AKBW[arc_A1, from_step_AB, utterance_B, from_row_AB]
        arc_B = score_AB.masked_fill(outside_AB, IMPOSSIBLE).argmax(dim=0)
        step_B = torch.where(going_B, step_B - stride_A[arc_B], step_B)
        row_B = torch.where(going_B, row_B - rise_A[arc_B], row_B)
        taken_AKBW[arc_B[going_B], step_B[going_B], utterance_B[going_B], row_B[going_B]] = 1.0
    return Paths(log_prob_B, taken_AKBW)


def _forward(lattice: Lattice, best: bool) -> Tensor:
    """Forward variables (K + 1, B, W): of all paths from the start to each node, or of the best of them."""
    weights_AKBW, blank_strides, label_strides, *_ = lattice
    arcs, steps, batch, width = weights_AKBW.shape
    blanks, strides = len(blank_strides), (*blank_strides, *label_strides)
    forward_KBW = weights_AKBW.new_full((steps + 1, batch, width), IMPOSSIBLE)
    forward_KBW[0, :, 0] = 0.0
    # Scores of the arcs that left the last few steps, in the row where they arrive; what left step k is in slot k modulo ring.
    ring = max(strides)
    sent = weights_AKBW.new_full((ring, arcs, batch, width), IMPOSSIBLE)
    sent_BW, sent_blanks, sent_labels = sent.flatten(0, 1), sent[:, :blanks].unbind(), sent[:, blanks:, :, 1:].unbind()
    arriving = torch.tensor([[(slot - stride) % ring * arcs + arc for arc, stride in enumerate(strides)] for slot in range(ring)])
    arriving_slots = arriving.to(weights_AKBW.device).unbind()
    # Views taken before the loop: inside it they would cost as much as the arithmetic.
    nodes, below_last = forward_KBW.unbind(), forward_KBW[:, :, :-1].unbind()
    blank_weights, label_weights = weights_AKBW[:blanks].unbind(1), weights_AKBW[blanks:, :, :, :-1].unbind(1)
    for k in range(steps):
        torch.add(nodes[k], blank_weights[k], out=sent_blanks[k % ring])
        torch.add(below_last[k], label_weights[k], out=sent_labels[k % ring])
        arriving_ABW = sent_BW.index_select(0, arriving_slots[(k + 1) % ring])
        if best:
            torch.amax(arriving_ABW, dim=0, out=nodes[k + 1])
        else:
            _log_sum_exp(arriving_ABW, out_BW=nodes[k + 1])
    return forward_KBW


def _backward(lattice: Lattice) -> Tensor:
    """Backward variables (2, more than K + 1, B, W): of all paths from each node to the end, -inf beyond the lattice; and the same
    of the node one row above, which is where labels lead."""
    weights_AKBW, blank_strides, label_strides, last_step_B, last_row_B = lattice
    arcs, steps, batch, width = weights_AKBW.shape
    blanks, strides, device = len(blank_strides), (*blank_strides, *label_strides), weights_AKBW.device
    backward_KBW, above_KBW = both = weights_AKBW.new_full((2, steps + 1 + max(strides), batch, width), IMPOSSIBLE)
    backward_KBW[last_step_B, torch.arange(batch, device=device), last_row_B] = 0.0
    above_KBW[:, :, :-1] = backward_KBW[:, :, 1:]
    arrival_A = torch.tensor([stride + (arc >= blanks) * both.shape[1] for arc, stride in enumerate(strides)], device=device)
    arrivals = (arrival_A + torch.arange(steps, device=device).unsqueeze(1)).unbind()
    both_BW, nodes, above = both.flatten(0, 1), backward_KBW.unbind(), above_KBW[:, :, :-1].unbind()
    nodes_above, weights, sum_BW = backward_KBW[:, :, 1:].unbind(), weights_AKBW.unbind(1), weights_AKBW.new_empty(batch, width)
    for k in range(steps - 1, -1, -1):
        _log_sum_exp(both_BW.index_select(0, arrivals[k]).add_(weights[k]), out_BW=sum_BW)
        torch.maximum(sum_BW, nodes[k], out=nodes[k])  # a path's last node has its 0 already, and no arc leaves it
        above[k].copy_(nodes_above[k])
    return both


def _log_sum_exp(x_ABW: Tensor, out_BW: Tensor) -> None:
    """``torch.logsumexp`` in half its time, for small tensors, which are lost."""
    max_BW = x_ABW.amax(dim=0).clamp_(min=torch.finfo(x_ABW.dtype).min)  # so that -inf - max is no NaN
    torch.sum(x_ABW.sub_(max_BW).exp_(), dim=0, out=out_BW)
    out_BW.log_().add_(max_BW)


def _last(forward_KBW: Tensor, lattice: Lattice) -> Tensor:
    return forward_KBW[lattice.last_step_B, torch.arange(forward_KBW.shape[1], device=forward_KBW.device), lattice.last_row_B]
