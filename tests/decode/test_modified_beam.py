from __future__ import annotations

import itertools
import math

import pytest
import torch

from asr.decode.modified_beam import START_OF_HASH, ModifiedBeam, extend_hashes
from asr.types import EncoderOut
from tests.decode.models import TOKENIZER, VOCABULARY, log_probs, one_by_one, random_encoder_out, random_model


def slow_beam(model, frames_SD, beam: int, blank_penalty: float = 0.0, reward: float = 0.0) -> dict[tuple[int, ...], float]:
    """Token tuples and their scores, by a dictionary."""
    hypotheses = {(): 0.0}
    for frame_D in frames_SD:
        candidates = []
        for tokens, score in hypotheses.items():
            for token, value in enumerate(log_probs(model, frame_D, list(tokens), blank_penalty).tolist()):
                candidates.append((score + value + (reward if token else 0.0), tokens + ((token,) if token else ())))
        hypotheses = {}
        for score, tokens in sorted(candidates, reverse=True)[:beam]:
            hypotheses[tokens] = math.log(math.exp(hypotheses[tokens]) + math.exp(score)) if tokens in hypotheses else score
    return hypotheses


@torch.no_grad()
@pytest.mark.parametrize("predictor, context", [("stateless", 2), ("lstm", 1), ("transformer", 1)])
@pytest.mark.parametrize("beam, blank_penalty, reward", [(1, 0.0, 0.0), (4, 0.0, 0.0), (6, 0.7, 0.0), (4, 0.0, 0.4)])
def test_equals_a_dictionary_of_token_tuples(predictor, context, beam, blank_penalty, reward):
    model, encoder_out = random_model(2, predictor), random_encoder_out()
    scorers = {"length": {"type": "length", "scale": reward}} if reward else {}
    config = ModifiedBeam.Config.model_validate({"beam": beam, "blank_penalty": blank_penalty, "scorers": scorers})
    results = ModifiedBeam(config, model, TOKENIZER).decode(encoder_out)
    for result, alone in zip(results, one_by_one(encoder_out)):
        expected = slow_beam(model, alone.frames_BSD[0], beam, blank_penalty, reward)
        assert {h.tokens: h.score for h in result} == pytest.approx(expected, abs=1e-3)
        ranked = sorted(expected, key=lambda tokens: -expected[tokens] / (len(tokens) + context))
        assert [h.tokens for h in result] == ranked
        for h in result:
            assert len(h.frames) == len(h.tokens) and list(h.frames) == sorted(set(h.frames))
            if reward:
                assert h.scores["length"] == len(h.tokens)
                assert h.scores["model"] + reward * h.scores["length"] == pytest.approx(h.score, abs=1e-3)


@torch.no_grad()
def test_wide_beam_equals_enumeration():
    """With room for every sequence, scores are sums over all alignments with at most one token per frame."""
    model, encoder_out = random_model(5), random_encoder_out(lens=(3,))
    totals: dict[tuple[int, ...], float] = {}
    for alignment in itertools.product(range(VOCABULARY), repeat=3):
        tokens, score = [], 0.0
        for frame_D, token in zip(encoder_out.frames_BSD[0], alignment):
            score += float(log_probs(model, frame_D, tokens)[token])
            tokens += [token] if token else []
        totals[tuple(tokens)] = totals.get(tuple(tokens), 0.0) + math.exp(score)
    (result,) = ModifiedBeam(ModifiedBeam.Config(beam=VOCABULARY**3), model, TOKENIZER).decode(encoder_out)
    assert {h.tokens: math.exp(h.score) for h in result} == pytest.approx(totals, abs=1e-5)
    assert sum(math.exp(h.score) for h in result) == pytest.approx(1.0, abs=1e-4)


def test_batched_equals_one_by_one_and_no_frames_give_nothing():
    model, encoder_out = random_model(4), random_encoder_out(lens=(9, 0, 23, 1, 16))
    search = ModifiedBeam(ModifiedBeam.Config(), model, TOKENIZER)
    together = search.decode(encoder_out)
    assert together[1][0].tokens == () and together[1][0].score == 0.0
    for b, alone in enumerate(one_by_one(encoder_out)):
        if b != 1:
            expected = search.decode(alone)[0]
            assert [h.tokens for h in together[b]] == [h.tokens for h in expected]
            assert together[b][0].confidences == pytest.approx(expected[0].confidences, abs=1e-5)


def test_best_first_when_the_beam_is_wider_than_the_vocabulary():
    model = random_model(6)
    search = ModifiedBeam(ModifiedBeam.Config(beam=20), model, TOKENIZER)
    (result,) = search.decode(EncoderOut(torch.randn(1, 1, 12), torch.tensor([1])))
    assert len(result) == VOCABULARY and all(h.score > -math.inf for h in result)


def test_hashes_tell_sequences_apart():
    sequences = [s for n in range(1, 5) for s in itertools.product(range(1, 12), repeat=n)]
    hashes = []
    for sequence in sequences:
        value = torch.tensor([START_OF_HASH])
        for token in sequence:
            value = extend_hashes(extend_hashes(value, torch.tensor([token])), torch.tensor([0]))
        hashes.append(int(value))
    assert len(set(hashes)) == len(sequences)
