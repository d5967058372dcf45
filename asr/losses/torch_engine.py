"""The sum over all alignments, and the best of them, by PyTorch's own operations: on any device, and as the equations have it.

Shape legend: lattice.py; A counts the arcs that leave a node: blanks with each of their moves, then labels. K counts steps of the recursion
in paths.py, in which every arc leads to a later step: frames, or anti-diagonals, k = s + u, where a label may stay within its frame.
"""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.losses import paths
from asr.losses.engines import Moves
from asr.losses.paths import IMPOSSIBLE, Lattice, Paths


def sum_paths(
    blank_BSR: Tensor, label_BSR: Tensor, duration_LBSR: Tensor | None, first_BS: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
    moves: Moves,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """See engines.py."""
    return _solve(paths.all_paths, blank_BSR, label_BSR, duration_LBSR, first_BS, frame_lens_B, token_lens_B, moves)


def best_path(
    blank_BSR: Tensor, label_BSR: Tensor, duration_LBSR: Tensor | None, first_BS: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
    moves: Moves,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The same of the most probable alignment alone, with posteriors of 0 and 1."""
    return _solve(paths.best_path, blank_BSR, label_BSR, duration_LBSR, first_BS, frame_lens_B, token_lens_B, moves)


def _solve(
    solve: Callable[[Lattice], Paths], blank_BSR: Tensor, label_BSR: Tensor, duration_LBSR: Tensor | None, first_BS: Tensor,
    frame_lens_B: Tensor, token_lens_B: Tensor, moves: Moves,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    batch, frames, window = blank_BSR.shape
    width, skewed = int(first_BS.max()) + window, moves.label[0] == 0
    row_BSR = first_BS.unsqueeze(2) + torch.arange(window, device=first_BS.device)
    left_BS1 = (frame_lens_B.unsqueeze(1) - torch.arange(frames, device=first_BS.device)).unsqueeze(2)
    tokens_left_BSR = token_lens_B.view(-1, 1, 1) - row_BSR
    arcs = [(blank_BSR, i, move, (left_BS1 >= move) & (tokens_left_BSR >= 0)) for i, move in enumerate(moves.blank) if move > 0]
    last = 0 if moves.label_ends else 1
    arcs += [(label_BSR, i, move, (left_BS1 >= move + last) & (tokens_left_BSR > 0)) for i, move in enumerate(moves.label)]
    weights_AKBW = blank_BSR.new_empty(len(arcs), frames + width - 1 if skewed else frames, batch, width)
    for weights_KBW, (token_BSR, i, _, exists_BSR) in zip(weights_AKBW, arcs):
        arc_BSR = token_BSR if duration_LBSR is None else token_BSR + duration_LBSR[i]
        arc_BSW = arc_BSR.new_full((batch, frames, width), IMPOSSIBLE)
        arc_BSW.scatter_(2, row_BSR, arc_BSR.masked_fill(~exists_BSR, IMPOSSIBLE))
        weights_KBW.copy_(_to_steps(arc_BSW, skewed))
    blanks = len(arcs) - len(moves.label)
    lattice = Lattice(
        weights_AKBW, blank_strides=tuple(move for move in moves.blank if move > 0),
        label_strides=tuple(move + skewed for move in moves.label),
        last_step_B=frame_lens_B + token_lens_B if skewed else frame_lens_B, last_row_B=token_lens_B,
    )
    log_prob_B, posterior_AKBW = solve(lattice)
    posteriors = [_from_steps(posterior_KBW, frames, skewed).gather(2, row_BSR) for posterior_KBW in posterior_AKBW]
    blank_posteriors, label_posteriors = posteriors[:blanks], posteriors[blanks:]
    durations = None
    if duration_LBSR is not None:
        durations = torch.stack(label_posteriors)
        durations[-blanks:] += torch.stack(blank_posteriors)
    return log_prob_B, sum(blank_posteriors[1:], blank_posteriors[0]), sum(label_posteriors[1:], label_posteriors[0]), durations


def _to_steps(x_BSW: Tensor, skewed: bool) -> Tensor:
    """(B, S, W) to (K, B, W); skewed, out[s + u, b, u] = x[b, s, u], and -inf elsewhere."""
    x_BWS = x_BSW.transpose(1, 2)
    if skewed:
        # A row of S + W numbers read as rows of S + W - 1 shifts row u to the right by u.
        batch, width, frames = x_BWS.shape
        flat = F.pad(x_BWS, (0, width), value=IMPOSSIBLE).flatten(1)
        x_BWS = flat[:, : width * (frames + width - 1)].view(batch, width, frames + width - 1)
    return x_BWS.permute(2, 0, 1)


def _from_steps(x_KBW: Tensor, frames: int, skewed: bool) -> Tensor:
    """The inverse of :func:`_to_steps`."""
    x_BWK = x_KBW.permute(1, 2, 0)
    if skewed:
        batch, width, steps = x_BWK.shape
        x_BWK = F.pad(x_BWK.flatten(1), (0, width)).view(batch, width, steps + 1)
    return x_BWK[:, :, :frames].transpose(1, 2)
