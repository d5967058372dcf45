"""The attention decoder: rows see the past only, padding and neighbours change nothing, paths share their utterance's frames."""
from __future__ import annotations

import pytest
import torch

from asr.models.attention_decoder import AttentionDecoder
from asr.models.transducer import Transducer
from asr.types import EncoderOut, Targets

VOCABULARY, DIM = 9, 12
LENS, SEQUENCES = [7, 4, 1], [[1, 2, 3, 4], [5], [8, 8]]


@pytest.fixture(scope="module")
def decoder() -> AttentionDecoder:
    torch.manual_seed(0)
    config = AttentionDecoder.Config(dim=16, layers=2, heads=2, feedforward=24)
    return AttentionDecoder(config, DIM, VOCABULARY).eval()


def frames(padding: float = float("nan")) -> EncoderOut:
    frames_BSD = torch.randn(len(LENS), max(LENS), DIM, generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(LENS):
        frames_BSD[row, length:] = padding
    return EncoderOut(frames_BSD, torch.tensor(LENS))


@torch.no_grad()
def slow_log_prob(decoder: AttentionDecoder, tokens: list[int], frames_SD: torch.Tensor) -> float:
    """One token at a time, each from the tokens before it, of one path of one utterance."""
    alone = EncoderOut(frames_SD[None], torch.tensor([len(frames_SD)]))
    total = 0.0
    for u, label in enumerate([*tokens, 0]):
        total += float(decoder(torch.tensor([tokens[:u]], dtype=torch.int64), alone)[0, u].log_softmax(-1)[label])
    return total


@torch.no_grad()
def test_paths_of_a_batch_have_the_probabilities_they_have_alone(decoder):
    encoder_out = frames()
    paths = [[[1, 2, 3, 4], [1, 2], []], [[5], [5, 5], [6, 1, 1]], [[8, 8], [1], [2]]]
    targets = Targets.from_lists([tokens for of_utterance in paths for tokens in of_utterance])
    found_BP = decoder.log_probs(targets.tokens_BU, targets.lens_B, encoder_out).view(3, 3)
    for row, of_utterance in enumerate(paths):
        expected = [slow_log_prob(decoder, tokens, encoder_out.frames_BSD[row, : LENS[row]]) for tokens in of_utterance]
        assert found_BP[row].tolist() == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_it_listens(decoder):
    """Other frames give other probabilities, of that utterance only."""
    targets = Targets.from_lists(SEQUENCES)
    quiet, loud = frames(), frames()
    loud.frames_BSD[0, :7] *= -2.0
    before, after = (decoder.log_probs(targets.tokens_BU, targets.lens_B, out) for out in (quiet, loud))
    assert (before[0] - after[0]).abs() > 1e-2 and torch.equal(before[1:], after[1:])


def test_a_model_without_it_is_drawn_as_before():
    values = {"encoder": {"type": "conformer", "dim": 16, "layers": 1, "heads": 2}, "predictor": {"type": "stateless", "dim": 8}, "ctc": {}}
    states = []
    for more in ({}, {"attention": {"dim": 8, "heads": 2}}):
        torch.manual_seed(3)
        states.append(Transducer(Transducer.Config.model_validate({**values, **more}), feature_dim=20, vocab_size=7).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert {name.partition(".")[0] for name in states[1].keys() - states[0].keys()} == {"attention"}
    with pytest.raises(ValueError, match="multiple of twice the 4 heads"):
        AttentionDecoder.Config(dim=20)
