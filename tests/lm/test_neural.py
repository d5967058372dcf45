from __future__ import annotations

import math

import pytest
import torch

from asr.lm.neural import NeuralLm, NextToken, load_lm, perplexity, save_lm, text_batch
from asr.models.predictors import PREDICTORS, select

VOCABULARY = 6
SYMBOLS = ["<blk>", *"abcde"]
CONFIGS = {
    "lstm": PREDICTORS["lstm"].Config(dim=8, layers=2),
    "transformer": PREDICTORS["transformer"].Config(dim=8, layers=2, heads=2, feedforward=16, context=4),
}


@pytest.fixture(params=CONFIGS)
def lm(request) -> NeuralLm:
    torch.manual_seed(0)
    return NeuralLm(CONFIGS[request.param], VOCABULARY).eval()


@torch.no_grad()
def test_stepping_with_a_state_is_the_full_forward_pass(lm):
    """Beyond the context, and with hypotheses that change places, as in a beam."""
    tokens_NU = torch.randint(1, VOCABULARY, (5, 12))
    expected_NUV = lm(tokens_NU)
    order = torch.arange(5)
    log_probs_NV, state = lm.start(5, "cpu")
    for u in range(13):
        assert torch.allclose(log_probs_NV, expected_NUV[order, u], atol=1e-5)
        if u < 12:
            rows = torch.randint(5, (5,))
            order = order[rows]
            log_probs_NV, state = lm.step(tokens_NU[order, u], select(state, rows))


@torch.no_grad()
def test_the_loss_is_what_stepping_sums_up_to_and_padding_changes_nothing(lm):
    sentences = [[1, 2, 3, 4], [], [5, 5, 1, 2, 3, 1], [2]]
    batch = text_batch(sentences, list("abcd"))
    total_B = NextToken()(lm.encode(batch.features_BTF, batch.feature_lens_B), batch.targets, lm, 0).total_B
    for sentence, total in zip(sentences, total_B.tolist()):
        log_probs_1V, state = lm.start(1, "cpu")
        expected = 0.0
        for token in sentence:
            expected -= float(log_probs_1V[0, token])
            log_probs_1V, state = lm.step(torch.tensor([token]), state)
        assert total == pytest.approx(expected - float(log_probs_1V[0, 0]), abs=1e-4)
    found = perplexity(lm, [batch])
    assert found.value == pytest.approx(math.exp(float(total_B.sum()) / 15), rel=1e-5)
    assert (found.words, found.sentences) == (11, 4)


@torch.no_grad()
def test_the_probabilities_of_all_sentences_of_a_length_and_less_add_up(lm):
    """Those that end after at most two tokens, and those that go on."""
    first_V = lm(torch.zeros(1, 0, dtype=torch.int64))[0, 0].exp()
    ended, going = float(first_V[0]), 0.0
    for token in range(1, VOCABULARY):
        second_V = lm(torch.tensor([[token]]))[0, 1].exp()
        ended += float(first_V[token] * second_V[0])
        going += float(first_V[token] * second_V[1:].sum())
    assert ended + going == pytest.approx(1.0, abs=1e-5)


def test_saved_and_read_again(lm, tmp_path):
    config = next(config for name, config in CONFIGS.items() if isinstance(lm.predictor, PREDICTORS[name]))
    save_lm(tmp_path / "lm.pt", config, SYMBOLS, lm.state_dict())
    again = load_lm(tmp_path / "lm.pt", SYMBOLS)
    tokens = torch.tensor([[1, 4, 2]])
    assert torch.equal(again(tokens), lm(tokens)) and not again.training
    with pytest.raises(ValueError, match="other tokens"):
        load_lm(tmp_path / "lm.pt", SYMBOLS[::-1])
    (tmp_path / "lm.pt").write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a language model"):
        load_lm(tmp_path / "lm.pt", SYMBOLS)
