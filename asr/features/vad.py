"""Where somebody speaks, by the energy of the signal alone: for recordings whose noise is quieter than their speech."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHIFT = 0.01
"""Seconds per frame."""

SILENCE = 1e-9
"""Power of a signal that nobody hears: -90 dB."""


class Region(NamedTuple):
    """Seconds."""

    start: float
    end: float


class VadRules(NamedTuple):
    """All in seconds, but for the first two.

    contrast: decibels by which the loud frames of a recording exceed its quiet ones where there is any speech in it.
    level: a frame is speech where it is this part of the way, in decibels, from the quiet to the loud ones.
    min_pause: shorter ones belong to the speech around them. min_speech: what is shorter is none.
    padding: that much of the pause before and after, half of it at most, goes with the speech.
    max_duration: longer speech is cut where it is quietest.
    """

    contrast: float = 8.0
    level: float = 0.35
    min_pause: float = 0.3
    min_speech: float = 0.2
    padding: float = 0.15
    max_duration: float = 20.0


def levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Decibels of full scale of each frame of ``SHIFT`` seconds; what is left at the end makes none."""
    size = round(SHIFT * rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    return 10 * np.log10((frames**2).mean(axis=1) + SILENCE)


def speech(levels: np.ndarray, rules: VadRules) -> list[Region]:
    """The parts of a recording in which somebody speaks, in order, none overlapping another.

    Quiet and loud are the 10th and the 95th percentile of the levels, averaged over 50 ms, of the whole recording.
    """
    if len(levels) < 5:
        return []
    smooth = np.convolve(levels, np.full(5, 0.2), mode="same")
    quiet, loud = np.percentile(smooth, (10, 95))
    if loud - quiet < rules.contrast:
        return []
    runs = _runs(smooth > quiet + rules.level * (loud - quiet))
    joined: list[list[int]] = []
    for first, end in runs:
        if joined and (first - joined[-1][1]) * SHIFT < rules.min_pause:
            joined[-1][1] = end
        else:
            joined.append([first, end])
    spoken = [(first, end) for first, end in joined if (end - first) * SHIFT >= rules.min_speech]
    most, pieces = round(rules.max_duration / SHIFT), []
    for first, end in _padded(spoken, len(levels), round(rules.padding / SHIFT)):
        while end - first > most:
            cut = first + most // 2 + int(smooth[first + most // 2: first + most].argmin())
            pieces.append((first, cut))
            first = cut
        pieces.append((first, end))
    return [Region(round(first * SHIFT, 2), round(end * SHIFT, 2)) for first, end in pieces]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First, and end, of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def _padded(runs: list[tuple[int, int]], length: int, padding: int) -> list[tuple[int, int]]:
    before = [first if k == 0 else (first - runs[k - 1][1]) // 2 for k, (first, _) in enumerate(runs)]
    after = [*before[1:], length - runs[-1][1]] if runs else []
    return [(first - min(padding, b), end + min(padding, a)) for (first, end), b, a in zip(runs, before, after)]
