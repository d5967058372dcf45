"""Long recordings cut into utterances: where each word of a transcript is said, by the CTC head, and how sure that is.

After Kürzinger et al., "CTC-segmentation of large corpora for German end-to-end speech recognition", SPECOM 2020, with two changes.
The alignment moves through the transcript in a band around its best state, so that time and memory grow with the recording only; and
speech between two words that the transcript does not have costs at most ``UNTRANSCRIBED`` per frame, as a wildcard does in Cai et al.,
"W-CTC: a connectionist temporal classification loss with wild cards", ICLR 2022.

Shape legend: asr/types.py; S counts the encoder frames of the whole recording, J states (a blank, then each token and a blank), W those
in the band.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Sequence

import numpy as np
import torch

from asr.types import BLANK

BAND = 4096
"""States: about two minutes of fast speech, in characters."""

UNTRANSCRIBED = 2.0
"""What a frame costs between two words, at most: the negative logarithm of its probability."""

NOT_SPOKEN = -30.0
"""Log-probability of a token where nobody speaks."""

WINDOW = 1.2
"""Seconds over which confidences are averaged."""


@dataclass(frozen=True)
class SegmentRules:
    """All in seconds.

    max_pause: at longer pauses the text is always cut. max_duration: segments longer than this are cut at their longest pause.
    padding: that much of the pause before and after, half of it at most, goes with a segment.
    """

    max_pause: float = 1.0
    max_duration: float = 15.0
    padding: float = 0.2


@dataclass(frozen=True)
class Segment:
    """Words ``first`` up to but without ``end`` of the transcript, said from ``start`` to ``stop`` seconds.

    confidence: the average probability (its geometric mean) that frames have along the alignment, over the ``WINDOW`` where it is
    lowest, padding included: one wrong, missing or superfluous word in the text makes all of it doubtful (Kürzinger et al., section 2.3).
    """

    first: int
    end: int
    start: float
    stop: float
    confidence: float


@torch.no_grad()
def recording_log_probs(model: Any, parts: Iterable[tuple[float, torch.Tensor]], duration: float, seconds_per_frame: float) -> np.ndarray:
    """Log-probabilities (S, V) of the CTC head over a recording of ``duration`` seconds.

    parts: start in seconds and features (T, F) of each part in which somebody speaks. They are encoded by themselves, for a model that was
    trained on utterances knows neither their number nor long pauses; between them all is blank.
    """
    device = next(model.parameters()).device
    log_probs_SV = np.full((max(1, round(duration / seconds_per_frame)), model.vocab_size), NOT_SPOKEN, dtype=np.float32)
    log_probs_SV[:, BLANK] = 0.0
    for start, features_TF in parts:
        if len(features_TF) < model.encoder.min_frames:
            continue
        out = model.encode(features_TF.unsqueeze(0).to(device), torch.tensor([len(features_TF)], device=device))
        first = int(start / seconds_per_frame)
        part_SV = model.ctc_log_probs(out)[0, : min(int(out.lens_B[0]), len(log_probs_SV) - first)]
        log_probs_SV[first: first + len(part_SV)] = part_SV.cpu().numpy()
    return log_probs_SV


def best_states(log_probs_SV: np.ndarray, words: Sequence[Sequence[int]], band: int = BAND) -> np.ndarray | None:
    """The state (S,) of the best alignment at each frame, token u of the text being state 2 u + 1; None where none fits the recording.

    words: the tokens of each word. Takes ``band`` bytes per frame.
    """
    labels_J, between_J = _states(words)
    states, frames = len(labels_J), len(log_probs_SV)
    width = min(band, states)
    skip_J = np.zeros(states, dtype=bool)
    skip_J[3::2] = labels_J[3::2] != labels_J[1:-2:2]
    score_W = np.full(width, -np.inf)
    score_W[0] = 0.0
    step_SW = np.zeros((frames, width), dtype=np.uint8)
    offset_S = np.zeros(frames, dtype=np.int64)
    offset = 0
    arrivals = np.full((3, width), -np.inf)
    for s in range(frames):
        target = min(max(offset, offset + int(score_W.argmax()) - width // 2), states - width)
        if target > offset:
            score_W = np.concatenate([score_W[target - offset:], np.full(target - offset, -np.inf)])
            offset = target
        here = slice(offset, offset + width)
        arrivals[0] = score_W
        arrivals[1, 1:] = score_W[:-1]
        arrivals[2, 2:] = np.where(skip_J[here][2:], score_W[:-2], -np.inf)
        step_SW[s] = step_W = arrivals.argmax(axis=0)
        emitted_W = log_probs_SV[s, labels_J[here]]
        score_W = np.take_along_axis(arrivals, step_W[None], axis=0)[0]
        score_W += np.where(between_J[here], np.maximum(emitted_W, -UNTRANSCRIBED), emitted_W)
        offset_S[s] = offset
    last = [state for state in (states - 1, states - 2) if 0 <= state - offset < width and score_W[state - offset] > -np.inf]
    if not last:
        return None
    state_S = np.empty(frames, dtype=np.int64)
    state = max(last, key=lambda state: score_W[state - offset])
    for s in range(frames - 1, -1, -1):
        state_S[s] = state
        state -= int(step_SW[s, state - offset_S[s]])
    return state_S


def _states(words: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The label of each state, and whether it is a blank before, between or after words."""
    tokens = [token for word in words for token in word]
    labels_J = np.full(2 * len(tokens) + 1, BLANK)
    labels_J[1::2] = tokens
    between_J = np.zeros(len(labels_J), dtype=bool)
    between_J[2 * np.cumsum([0, *map(len, words)])] = True
    return labels_J, between_J


def segments(
    log_probs_SV: np.ndarray, words: Sequence[Sequence[int]], seconds_per_frame: float, rules: SegmentRules, band: int = BAND
) -> list[Segment]:
    """The transcript in pieces; none where it has no alignment. Each of ``words`` has a token at least."""
    state_S = best_states(log_probs_SV, words, band)
    if state_S is None:
        return []
    score_S = log_probs_SV[np.arange(len(state_S)), _states(words)[0][state_S]]
    ends = np.cumsum([len(word) for word in words])
    word_of = np.repeat(np.arange(len(words)), [len(word) for word in words])
    spoken_S = np.flatnonzero(state_S % 2)
    frames_word = word_of[state_S[spoken_S] // 2]
    first_frame = spoken_S[np.searchsorted(frames_word, np.arange(len(ends)), side="left")]
    end_frame = spoken_S[np.searchsorted(frames_word, np.arange(len(ends)), side="right") - 1] + 1
    start, stop = first_frame * seconds_per_frame, end_frame * seconds_per_frame
    window = max(1, round(WINDOW / seconds_per_frame))
    total = len(state_S) * seconds_per_frame
    found = []
    for first, end in _pieces(start, stop, rules):
        before = (start[first] - stop[first - 1]) / 2 if first else start[first]
        after = (start[end] - stop[end - 1]) / 2 if end < len(start) else total - stop[end - 1]
        begin, finish = start[first] - min(rules.padding, before), stop[end - 1] + min(rules.padding, after)
        confidence = _confidence(score_S[int(begin / seconds_per_frame): round(finish / seconds_per_frame)], window)
        found.append(Segment(first, end, round(float(begin), 3), round(float(finish), 3), round(confidence, 4)))
    return found


def _pieces(start: np.ndarray, stop: np.ndarray, rules: SegmentRules) -> list[tuple[int, int]]:
    """First word, and end, of each segment."""
    pauses = start[1:] - stop[:-1]
    borders = [0, *(int(k) + 1 for k in np.flatnonzero(pauses > rules.max_pause)), len(start)]
    todo, done = [(first, end) for first, end in zip(borders, borders[1:])][::-1], []
    while todo:
        first, end = todo.pop()
        if end - first > 1 and stop[end - 1] - start[first] > rules.max_duration:
            cut = first + 1 + int(pauses[first: end - 1].argmax())
            todo += [(cut, end), (first, cut)]
        else:
            done.append((first, end))
    return done


def _confidence(score_S: np.ndarray, window: int) -> float:
    sums = np.concatenate([[0.0], np.cumsum(score_S, dtype=np.float64)])
    window = min(window, len(score_S))
    return float(np.exp((sums[window:] - sums[:-window]).min() / window))
