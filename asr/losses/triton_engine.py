"""The sum over all alignments on a GPU, compiled by Triton: a block of threads per utterance, a thread per token.

Nodes are visited anti-diagonal by anti-diagonal, k = s + u: whatever the moves, an arc leads to a later one. A sweep from the end gives
each node the log-probability of all paths from it to the end (Graves, 2012, eq. 18), and so the share of them that takes each of its
arcs; with the shares, a sweep from the start is one of plain probabilities.

Shape legend: lattice.py; A counts the arcs that leave a node: blanks with each of the L moves, then labels; I counts threads.
"""
# mypy: allow-untyped-defs
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.losses.engines import Moves
from asr.losses.paths import IMPOSSIBLE


def sum_paths(
    blank_BSR: Tensor, label_BSR: Tensor, duration_LBSR: Tensor | None, first_BS: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
    moves: Moves,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """See engines.py."""
    batch, frames, rows = blank_BSR.shape
    timed, count = duration_LBSR is not None, len(moves.blank)
    duration_BSRL = blank_BSR if duration_LBSR is None else duration_LBSR.permute(1, 2, 3, 0)
    move_A = torch.tensor([*moves.blank, *moves.label], device=blank_BSR.device)
    lattice = [x.detach().contiguous() for x in (blank_BSR, label_BSR, duration_BSRL, first_BS, frame_lens_B, token_lens_B, move_A)]
    after_BSR = torch.full_like(lattice[0], IMPOSSIBLE)
    posterior_BSRA = blank_BSR.new_zeros(batch, frames, rows, 2 * count)
    block = triton.next_power_of_2(int(token_lens_B.max()) + 1)
    constants: dict[str, Any] = {"L": count, "TIMED": timed, "LABEL_ENDS": moves.label_ends, "BLOCK": block}
    _backward[(batch,)](*lattice, after_BSR, frames, rows, **constants)
    _forward[(batch,)](*lattice, after_BSR, posterior_BSRA, frames, rows, **constants)
    blank_BSRL, label_BSRL = posterior_BSRA.split(count, dim=3)
    durations = (blank_BSRL + label_BSRL).permute(3, 0, 1, 2) if timed else None
    return after_BSR[:, 0, 0].clone(), blank_BSRL.sum(dim=3), label_BSRL.sum(dim=3), durations


@triton.jit
def _score(
    token, duration, first, after, move, arc: tl.constexpr, S, R, frames, tokens, s_I, u_I, node_I, b,
    L: tl.constexpr, TIMED: tl.constexpr, LABEL_ENDS: tl.constexpr,
):
    """The log-probability of all paths that leave each node by an arc."""
    rise: tl.constexpr = arc // L
    advance = tl.load(move + arc)
    to_I = s_I + advance
    exists_I = node_I & (u_I + rise <= tokens)
    if rise == 0:
        exists_I = exists_I & (to_I > s_I)
    inside_I = exists_I & (to_I < frames)
    row_I = u_I + rise - tl.load(first + b * S + to_I, mask=inside_I, other=0)
    inside_I = inside_I & (row_I >= 0) & (row_I < R)
    at_I = (b * S + s_I) * R + u_I - tl.load(first + b * S + s_I, mask=node_I, other=0)
    score_I = tl.load(token + at_I, mask=exists_I, other=float("-inf"))
    if TIMED:
        score_I += tl.load(duration + at_I * L + arc % L, mask=exists_I, other=float("-inf"))
    after_I = tl.load(after + (b * S + to_I) * R + row_I, mask=inside_I, other=float("-inf"))
    if LABEL_ENDS or rise == 0:
        after_I = tl.where(exists_I & (to_I == frames) & (u_I + rise == tokens), 0.0, after_I)
    return tl.where(after_I > float("-inf"), score_I + after_I, float("-inf"))


@triton.jit
def _backward(
    blank, label, duration, first, frame_lens, token_lens, move, after, S, R,
    L: tl.constexpr, TIMED: tl.constexpr, LABEL_ENDS: tl.constexpr, BLOCK: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    frames, tokens = tl.load(frame_lens + b), tl.load(token_lens + b)
    u_I = tl.arange(0, BLOCK)
    for step in range(frames + tokens):
        s_I = frames + tokens - 1 - step - u_I
        node_I = (s_I >= 0) & (s_I < frames) & (u_I <= tokens)
        row_I = u_I - tl.load(first + b * S + s_I, mask=node_I, other=0)
        node_I = node_I & (row_I >= 0) & (row_I < R)
        best_I = tl.full((BLOCK,), float("-inf"), after.dtype.element_ty)
        for arc in tl.static_range(2 * L):
            score_I = _score(
                label if arc >= L else blank, duration, first, after, move, arc, S, R, frames, tokens, s_I, u_I, node_I, b,
                L, TIMED, LABEL_ENDS,
            )
            best_I = tl.maximum(best_I, score_I)
        top_I = tl.where(best_I > float("-inf"), best_I, 0.0)
        total_I = tl.full((BLOCK,), 0.0, after.dtype.element_ty)
        for arc in tl.static_range(2 * L):
            score_I = _score(
                label if arc >= L else blank, duration, first, after, move, arc, S, R, frames, tokens, s_I, u_I, node_I, b,
                L, TIMED, LABEL_ENDS,
            )
            total_I += tl.exp(score_I - top_I)
        after_I = tl.where(total_I > 0.0, top_I + tl.log(tl.where(total_I > 0.0, total_I, 1.0)), float("-inf"))
        tl.store(after + (b * S + s_I) * R + row_I, after_I, mask=node_I)
        tl.debug_barrier()  # the next anti-diagonals read what other threads have written


@triton.jit
def _forward(
    blank, label, duration, first, frame_lens, token_lens, move, after, posterior, S, R,
    L: tl.constexpr, TIMED: tl.constexpr, LABEL_ENDS: tl.constexpr, BLOCK: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    frames, tokens = tl.load(frame_lens + b), tl.load(token_lens + b)
    u_I = tl.arange(0, BLOCK)
    for step in range(frames + tokens):
        s_I = step - u_I
        node_I = (s_I >= 0) & (s_I < frames) & (u_I <= tokens)
        row_I = u_I - tl.load(first + b * S + s_I, mask=node_I, other=0)
        node_I = node_I & (row_I >= 0) & (row_I < R)
        at_I = (b * S + s_I) * R + row_I
        here_I = tl.where((s_I == 0) & (u_I == 0), 1.0, 0.0).to(after.dtype.element_ty)
        for arc in tl.static_range(2 * L):
            from_I, advance = u_I - arc // L, tl.load(move + arc)
            before_I = node_I & (s_I >= advance) & (from_I >= 0)
            from_row_I = from_I - tl.load(first + b * S + s_I - advance, mask=before_I, other=0)
            before_I = before_I & (from_row_I >= 0) & (from_row_I < R)
            if arc < L:
                before_I = before_I & (s_I - advance < s_I)
            here_I += tl.load(posterior + ((b * S + s_I - advance) * R + from_row_I) * 2 * L + arc, mask=before_I, other=0.0)
        after_I = tl.load(after + at_I, mask=node_I, other=float("-inf"))
        possible_I = after_I > float("-inf")
        for arc in tl.static_range(2 * L):
            score_I = _score(
                label if arc >= L else blank, duration, first, after, move, arc, S, R, frames, tokens, s_I, u_I, node_I, b,
                L, TIMED, LABEL_ENDS,
            )
            share_I = tl.where(possible_I, tl.exp(score_I - tl.where(possible_I, after_I, 0.0)), 0.0)
            tl.store(posterior + at_I * 2 * L + arc, here_I * share_I, mask=node_I)
        tl.debug_barrier()
