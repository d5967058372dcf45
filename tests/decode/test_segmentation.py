"""The alignment in a band is the best of all alignments, and segments are where the words were said."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from asr.decode.segmentation import NOT_SPOKEN, UNTRANSCRIBED, SegmentRules, best_states, recording_log_probs, segments
from asr.types import BLANK, EncoderOut

VOCAB = 6
SHIFT = 0.04


def enumerated(log_probs_SV: np.ndarray, words: list[list[int]]) -> float:
    """The score of the best alignment, all of them tried."""
    tokens = [token for word in words for token in word]
    starts = {sum(map(len, words[:k])) for k in range(len(words) + 1)}
    best = -math.inf
    for labels in itertools.product(range(VOCAB), repeat=len(log_probs_SV)):
        spelled = [label for k, label in enumerate(labels) if label != BLANK and (k == 0 or labels[k - 1] != label)]
        if spelled != tokens:
            continue
        score, done = 0.0, 0
        for k, label in enumerate(labels):
            done += label != BLANK and (k == 0 or labels[k - 1] != label)
            value = log_probs_SV[k, label]
            score += max(value, -UNTRANSCRIBED) if label == BLANK and done in starts else value
        best = max(best, score)
    return best


def score_of(log_probs_SV: np.ndarray, words: list[list[int]], state_S: np.ndarray) -> float:
    tokens = [token for word in words for token in word]
    starts = {sum(map(len, words[:k])) for k in range(len(words) + 1)}
    score = 0.0
    for s, state in enumerate(state_S.tolist()):
        label = tokens[state // 2] if state % 2 else BLANK
        between = state % 2 == 0 and state // 2 in starts
        score += max(log_probs_SV[s, label], -UNTRANSCRIBED) if between else log_probs_SV[s, label]
    return score


@pytest.mark.parametrize("words", [[[1]], [[1, 2]], [[1], [1]], [[3, 3]], [[1], [2, 1]]])
def test_best_of_all_alignments(words: list[list[int]]) -> None:
    rng = np.random.default_rng(len(words))
    for _ in range(3):
        log_probs_SV = torch.tensor(rng.normal(size=(5, VOCAB)) * 3).log_softmax(1).numpy()
        state_S = best_states(log_probs_SV, words)
        assert state_S is not None and (np.diff(state_S) >= 0).all()
        assert score_of(log_probs_SV, words, state_S) == pytest.approx(enumerated(log_probs_SV, words))


def test_no_alignment() -> None:
    log_probs_SV = np.zeros((3, VOCAB))
    assert best_states(log_probs_SV, [[1, 1]]) is not None
    assert best_states(log_probs_SV, [[1, 1, 2]]) is None
    assert segments(log_probs_SV, [[1, 1, 2]], SHIFT, SegmentRules()) == []


def spoken(said: list[tuple[float, list[int]]], seconds: float, doubt: float = 0.01) -> np.ndarray:
    """Log-probabilities of a model that hears tokens, 0.2 s after each other, from each of the given times on."""
    probs_SV = np.full((round(seconds / SHIFT), VOCAB), doubt / (VOCAB - 1))
    probs_SV[:, BLANK] = 1 - doubt
    for start, tokens in said:
        for k, token in enumerate(tokens):
            frame = round((start + 0.2 * k) / SHIFT)
            probs_SV[frame] = doubt / (VOCAB - 1)
            probs_SV[frame, token] = 1 - doubt
    return np.log(probs_SV)


def test_a_narrow_band_finds_the_same_in_a_long_recording() -> None:
    rng = np.random.default_rng(3)
    words = [rng.integers(1, VOCAB, size=3).tolist() for _ in range(200)]
    said = [(2.0 * k + float(rng.uniform(0, 1)), word) for k, word in enumerate(words)]
    log_probs_SV = spoken(said, 2.0 * len(words) + 1)
    narrow, whole = best_states(log_probs_SV, words, band=64), best_states(log_probs_SV, words, band=10_000)
    assert narrow is not None and whole is not None and (narrow == whole).all()
    found = segments(log_probs_SV, words, SHIFT, SegmentRules(max_pause=0.5), band=64)
    starts = np.array([start for start, _ in said])
    firsts = [segment.first for segment in found]
    assert len(found) > 100 and [segment.end for segment in found] == [*firsts[1:], len(words)]
    for segment in found:
        assert segment.start == pytest.approx(starts[segment.first] - 0.2, abs=0.15)
        assert segment.stop == pytest.approx(starts[segment.end - 1] + 0.4 + 0.2, abs=0.15)
        assert segment.confidence > 0.9


def test_what_the_text_lacks_and_what_was_not_said_is_doubtful() -> None:
    said = [(1.0, [1, 2, 3]), (4.0, [4, 5, 4, 5, 4]), (7.0, [2, 2, 1]), (10.0, [3, 1, 3])]
    log_probs_SV = spoken(said, 13.0)
    rules = SegmentRules(max_pause=1.0)
    faithful = segments(log_probs_SV, [word for _, word in said], SHIFT, rules)
    assert [(s.first, s.end) for s in faithful] == [(0, 1), (1, 2), (2, 3), (3, 4)] and min(s.confidence for s in faithful) > 0.9
    without = segments(log_probs_SV, [[1, 2, 3], [2, 2, 1], [3, 1, 3]], SHIFT, rules)
    assert [round(s.start, 1) for s in without] == pytest.approx([0.8, 6.8, 9.8], abs=0.1), "speech without text is in no segment"
    assert min(s.confidence for s in without) > 0.9
    wrong = segments(log_probs_SV, [[1, 2, 3], [5, 1, 1, 1, 2], [2, 2, 1], [3, 1, 3]], SHIFT, rules)
    assert wrong[0].confidence > 0.9 and wrong[-1].confidence > 0.9
    assert min(s.confidence for s in wrong) < 0.4


def test_long_segments_are_cut_at_their_longest_pause() -> None:
    said = [(1.0, [1]), (1.6, [2]), (2.6, [3]), (3.2, [4]), (3.8, [5])]
    found = segments(spoken(said, 5.0), [word for _, word in said], SHIFT, SegmentRules(max_pause=2.0, max_duration=2.0, padding=0.1))
    assert [(s.first, s.end) for s in found] == [(0, 2), (2, 5)]


class Echo(torch.nn.Module):
    """A model whose CTC head says what its features are."""

    vocab_size = VOCAB

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.encoder = torch.nn.Identity()
        self.encoder.min_frames = 2

    def encode(self, features_BTF: torch.Tensor, lens_B: torch.Tensor) -> EncoderOut:
        return EncoderOut(features_BTF, lens_B)

    def ctc_log_probs(self, out: EncoderOut) -> torch.Tensor:
        return out.frames_BSD


def test_parts_stand_where_they_were_said() -> None:
    parts = [(0.4, torch.full((5, VOCAB), -1.0)), (1.0, torch.full((1, VOCAB), -3.0)), (1.8, torch.full((9, VOCAB), -2.0))]
    log_probs_SV = recording_log_probs(Echo(), parts, duration=2.0, seconds_per_frame=SHIFT)
    assert log_probs_SV.shape == (50, VOCAB)
    expected = np.full((50, VOCAB), NOT_SPOKEN)
    expected[:, BLANK] = 0.0
    expected[10:15], expected[45:50] = -1.0, -2.0
    assert (log_probs_SV == expected).all()
