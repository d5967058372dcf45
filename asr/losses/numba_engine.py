"""The sum over all alignments on a CPU, compiled by numba: one utterance at a time, several in threads.

A sweep from the end of an utterance to its start gives each node the log-probability of all paths from it to the end (Graves, 2012,
eq. 18) and each arc the share of those that take it. With the shares, a sweep from the start is one of plain probabilities.
So logarithms and exponentials are taken once, and posteriors are no differences of large numbers.

Shape legend: lattice.py; A counts the arcs that leave a node: blanks with each of the L moves, then labels. Inner loops run over the rows
of a frame without depending on each other, so that they become vector instructions.
"""
# mypy: allow-untyped-defs
from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numba
import numpy as np
import torch
from torch import Tensor

from asr.losses.engines import Moves
from asr.losses.paths import IMPOSSIBLE


def sum_paths(
    blank_BSR: Tensor, label_BSR: Tensor, duration_LBSR: Tensor | None, first_BS: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor,
    moves: Moves,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """See engines.py."""
    batch, frames, rows = blank_BSR.shape
    duration_BSLR = blank_BSR.new_empty(batch, frames, 0, rows) if duration_LBSR is None else duration_LBSR.permute(1, 2, 0, 3)
    blank, label, duration = (x.detach().contiguous().numpy() for x in (blank_BSR, label_BSR, duration_BSLR))
    posteriors = [blank_BSR.new_zeros(x.shape) for x in (blank_BSR, label_BSR, duration_BSLR)]
    first, outputs = first_BS.contiguous().numpy(), [x.numpy() for x in posteriors]
    log_probs, frame_lens, token_lens = [IMPOSSIBLE] * batch, frame_lens_B.tolist(), token_lens_B.tolist()
    move_A = np.array([*moves.blank, *moves.label])

    def one(b: int) -> None:
        share_SAR = np.zeros((frame_lens[b], len(move_A), rows), dtype=blank.dtype)
        log_probs[b] = _backward(blank[b], label[b], duration[b], first[b], token_lens[b], move_A, moves.label_ends, share_SAR)
        if log_probs[b] > IMPOSSIBLE:
            _forward(share_SAR, first[b], token_lens[b], move_A, *(x[b] for x in outputs))

    threads = min(torch.get_num_threads(), batch)
    if threads == 1:
        for b in range(batch):
            one(b)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(batch)))
    duration_posterior_LBSR = None if duration_LBSR is None else posteriors[2].permute(2, 0, 1, 3)
    return blank_BSR.new_tensor(log_probs), posteriors[0], posteriors[1], duration_posterior_LBSR


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Kept beside this file, or in the user's cache; where neither can be written, every process compiles it again."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 6.93145751953125e-1, 1.42860682030941723212e-6
ROUND = 1.5 * 2.0**52
"""Added to a small number it leaves the nearest whole one in the last bits."""
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11 = (1.0 / math.factorial(n) for n in range(2, 12))
SMALLEST = -700.0
"""The logarithm of the least probability that is told from 0."""


@_compiled
def _exp(x):
    """exp(x) for x <= 0, 0 for -inf and NaN: 2^n exp(r), without the branches that would keep loops from being vectorised."""
    shifted = x * LOG2_E + ROUND
    n = shifted - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    y = 1 + r * (1 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * (C7 + r * (C8 + r * (C9 + r * (C10 + r * C11))))))))))
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return y * power if x > SMALLEST else 0.0


@_compiled
def _leading(first_S, s, to, rise, rows, tokens, frames, ends):
    """(low, high, shift): the arcs of rows low ... high - 1 of frame s exist, and lead to rows low - shift ... of frame ``to``."""
    if to < frames:
        shift = first_S[to] - first_S[s] - rise
        low, high = max(0, shift), min(rows, rows + shift, tokens - rise - first_S[s] + 1)
        return low, max(low, high), shift
    row = tokens - rise - first_S[s]
    return (row, row + 1, row) if to == frames and ends and 0 <= row < rows else (0, 0, 0)


@_compiled
def _backward(blank_SR, label_SR, duration_SLR, first_S, tokens, move_A, label_ends, share_SAR):
    """Fills the shares of arcs and returns the log-probability."""
    frames, arcs, rows = share_SAR.shape
    moves = arcs // 2
    waits = move_A[moves] == 0  # whether there is a label within the frame, for which the row above must be known
    timed = duration_SLR.shape[1] > 0
    after_SR = np.full((frames + 1, rows), IMPOSSIBLE)
    after_SR[frames, 0] = 0.0
    score_AR, best_R, total_R = np.empty((arcs, rows)), np.empty(rows), np.empty(rows)
    for s in range(frames - 1, -1, -1):
        score_AR[:], best_R[:], total_R[:] = IMPOSSIBLE, IMPOSSIBLE, 0.0
        for a in range(arcs):
            rise, to = a // moves, s + move_A[a]
            if to == s:
                continue
            low, high, shift = _leading(first_S, s, to, rise, rows, tokens, frames, rise == 0 or label_ends)
            token_R = label_SR[s, low:high] if rise else blank_SR[s, low:high]
            after_R, score_R, top_R = after_SR[min(to, frames), low - shift : high - shift], score_AR[a, low:high], best_R[low:high]
            if timed:
                duration_R = duration_SLR[s, a % moves, low:high]
                for r in range(high - low):
                    score_R[r] = token_R[r] + duration_R[r] + after_R[r]
            else:
                for r in range(high - low):
                    score_R[r] = token_R[r] + after_R[r]
            for r in range(high - low):
                top_R[r] = max(top_R[r], score_R[r])
        # Within a frame, the best path's score and then, as multiples of its probability, the sums: both are passed down the rows
        # at the price of a maximum or a product, where adding logarithms would take an exponential and a logarithm each.
        rises = min(rows - 1, tokens - first_S[s]) if waits else 0
        for r in range(rises - 1, -1, -1):
            score_AR[moves, r] = label_SR[s, r] + (duration_SLR[s, 0, r] if timed else 0.0) + best_R[r + 1]
            best_R[r] = max(best_R[r], score_AR[moves, r])
        for a in range(arcs):
            score_R = score_AR[a]
            for r in range(rows):
                score_R[r] = _exp(score_R[r] - best_R[r])
            for r in range(rows):
                total_R[r] += score_R[r]
        for r in range(rises - 1, -1, -1):
            through = score_AR[moves, r] * total_R[r + 1]
            total_R[r] += through - score_AR[moves, r]
            score_AR[moves, r] = through
        for r in range(rows):
            if total_R[r] > 0.0:
                after_SR[s, r] = best_R[r] + math.log(total_R[r])
                total_R[r] = 1.0 / total_R[r]
        for a in range(arcs):
            score_R, share_R = score_AR[a], share_SAR[s, a]
            for r in range(rows):
                share_R[r] = score_R[r] * total_R[r]
    return after_SR[0, 0]


@_compiled
def _forward(
    share_SAR, first_S, tokens, move_A, blank_posterior_SR, label_posterior_SR, duration_posterior_SLR
):
    """Fills the posteriors from the shares."""
    frames, arcs, rows = share_SAR.shape
    moves = arcs // 2
    here_SR = np.zeros((frames, rows), dtype=share_SAR.dtype)
    here_SR[0, 0] = 1.0
    for s in range(frames):
        here_R = here_SR[s]
        if move_A[moves] == 0:
            for r in range(rows - 1):
                here_R[r + 1] += here_R[r] * share_SAR[s, moves, r]
        for a in range(arcs):
            rise, to = a // moves, s + move_A[a]
            posterior_R, sum_R = share_SAR[s, a], label_posterior_SR[s] if rise else blank_posterior_SR[s]
            for r in range(rows):
                posterior_R[r] *= here_R[r]
            for r in range(rows):
                sum_R[r] += posterior_R[r]
            if duration_posterior_SLR.shape[1] > 0:
                duration_R = duration_posterior_SLR[s, a % moves]
                for r in range(rows):
                    duration_R[r] += posterior_R[r]
            if s < to < frames:
                low, high, shift = _leading(first_S, s, to, rise, rows, tokens, frames, True)
                next_R, posterior_R = here_SR[to, low - shift : high - shift], posterior_R[low:high]
                for r in range(high - low):
                    next_R[r] += posterior_R[r]
