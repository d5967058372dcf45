from __future__ import annotations

import pytest
import torch

from asr.decode.greedy import Greedy
from asr.types import EncoderOut
from tests.decode.models import log_probs, one_by_one, random_encoder_out, random_model


def slow_greedy(model, frames_SD, max_symbols: int, blank_penalty: float):
    """(tokens, frames, score), frame by frame."""
    tokens, places, score = [], [], 0.0
    for s, frame_D in enumerate(frames_SD):
        for _ in range(max_symbols):
            best, token = log_probs(model, frame_D, tokens, blank_penalty).max(0)
            score += float(best)
            if token == 0:
                break
            tokens.append(int(token))
            places.append(s)
    return tokens, places, score


@torch.no_grad()
@pytest.mark.parametrize("predictor", ["stateless", "lstm", "transformer"])
@pytest.mark.parametrize("max_symbols, blank_penalty", [(1, 0.0), (3, 0.0), (2, 1.5)])
def test_equals_frame_by_frame(predictor, max_symbols, blank_penalty):
    model, encoder_out = random_model(2, predictor), random_encoder_out(lens=(9, 40, 1, 16, 23, 8))
    search = Greedy(Greedy.Config(max_symbols_per_frame=max_symbols, blank_penalty=blank_penalty), model)
    results = search.decode(encoder_out)
    emitted = 0
    for result, alone in zip(results, one_by_one(encoder_out)):
        tokens, places, score = slow_greedy(model, alone.frames_BSD[0], max_symbols, blank_penalty)
        (hypothesis,) = result
        assert list(hypothesis.tokens) == tokens
        assert list(hypothesis.frames) == places
        assert hypothesis.score == pytest.approx(score, abs=1e-4)
        emitted += len(tokens)
    assert emitted > 20


@torch.no_grad()
@pytest.mark.parametrize("blank_penalty", [0.0, 1.5, -2.0])
def test_confidence_is_the_posterior_of_the_token(blank_penalty):
    """A penalty of blank has no part in it."""
    model, encoder_out = random_model(3), random_encoder_out()
    search = Greedy(Greedy.Config(blank_penalty=blank_penalty), model)
    for hypothesis, alone in zip(search.decode(encoder_out), one_by_one(encoder_out)):
        h = hypothesis[0]
        for u, (token, frame) in enumerate(zip(h.tokens, h.frames)):
            expected = log_probs(model, alone.frames_BSD[0, frame], list(h.tokens[:u])).exp()[token]
            assert h.confidences[u] == pytest.approx(float(expected), abs=1e-5)


def test_batched_equals_one_by_one_and_no_frames_give_nothing():
    model, encoder_out = random_model(4), random_encoder_out()
    search = Greedy(Greedy.Config(), model)
    together = search.decode(encoder_out)
    for result, alone in zip(together, one_by_one(encoder_out)):
        (expected,) = search.decode(alone)[0]
        assert result[0].tokens == expected.tokens and result[0].frames == expected.frames
    empty = EncoderOut(encoder_out.frames_BSD, torch.zeros_like(encoder_out.lens_B))
    assert [r[0].tokens for r in search.decode(empty)] == [()] * len(encoder_out.lens_B)
