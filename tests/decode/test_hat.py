"""Searches of models with blank apart (HAT) against walks over probabilities that are factorised by hand (tests/decode/models.py)."""
from __future__ import annotations

import pytest
import torch

from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from tests.decode.models import TOKENIZER, log_probs, one_by_one, random_encoder_out, random_model
from tests.decode.test_durations import DURATIONS, slow_beam, slow_greedy

MODELS = pytest.mark.parametrize("durations, symbols", [((), 1), (DURATIONS, 3)], ids=str)


@torch.no_grad()
@MODELS
@pytest.mark.parametrize("blank_penalty", [0.0, 0.7])
def test_greedy_equals_a_walk(durations, symbols, blank_penalty):
    model, encoder_out = random_model(2, durations=durations, blank="sigmoid"), random_encoder_out(lens=(9, 23, 1))
    results = Greedy(Greedy.Config(max_symbols_per_frame=symbols, blank_penalty=blank_penalty), model).decode(encoder_out)
    for (hypothesis,), alone in zip(results, one_by_one(encoder_out)):
        found, score, _ = slow_greedy(model, alone.frames_BSD[0], symbols, blank_penalty)
        assert list(hypothesis.tokens) == [token for token, _, _ in found]
        assert hypothesis.score == pytest.approx(score, abs=1e-4)


@torch.no_grad()
@MODELS
def test_beam_equals_a_dictionary_and_confidence_is_the_posterior(durations, symbols):
    model, encoder_out = random_model(2, durations=durations, blank="sigmoid"), random_encoder_out(lens=(9, 14, 1))
    results = ModifiedBeam(ModifiedBeam.Config(beam=4, max_symbols_per_frame=symbols), model, TOKENIZER).decode(encoder_out)
    for result, alone in zip(results, one_by_one(encoder_out)):
        expected = slow_beam(model, alone.frames_BSD[0], 4, symbols)
        assert {h.tokens: h.score for h in result} == pytest.approx(expected, abs=1e-3)
        best = result[0]
        for u, (token, frame) in enumerate(zip(best.tokens, best.frames)):
            posterior = log_probs(model, alone.frames_BSD[0, frame], list(best.tokens[:u])).exp()[token]
            assert best.confidences[u] == pytest.approx(float(posterior), abs=1e-5)
