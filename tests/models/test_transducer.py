"""The transducer as its parts make it: shapes, broadcasting, the CTC head, the config's errors."""
from __future__ import annotations

import pytest
import torch

from asr.config import validate
from asr.models.encoders import ENCODERS
from asr.models.transducer import Transducer

VALUES = {
    "encoder": {"type": "conformer", "dim": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 3},
    "predictor": {"type": "stateless", "dim": 8},
    "joiner": {"dim": 12},
    "ctc": {},
}


def build(**changes) -> Transducer:
    torch.manual_seed(0)
    return Transducer(validate(Transducer.Config, {**VALUES, **changes}, "test"), feature_dim=20, vocab_size=7).eval()


def test_joiner_broadcasts_frames_against_predictions():
    model = build()
    encoder_out = model.encode(torch.randn(2, 50, 20), torch.tensor([50, 31]))
    encoder = model.joiner.project_encoder(encoder_out.frames_BSD)
    predictor = model.joiner.project_predictor(model.predictor(torch.randint(1, 7, (2, 3))))
    logits = model.joiner(encoder.unsqueeze(2), predictor.unsqueeze(1))
    assert logits.shape == (2, encoder.shape[1], 4, 7)
    one = model.joiner.output_linear(torch.tanh(encoder[1, 2] + predictor[1, 3]))
    torch.testing.assert_close(logits[1, 2, 3], one)


def test_durations_stand_behind_the_tokens():
    model = build(joiner={"dim": 12, "durations": [0, 1, 4]})
    assert model.durations == (0, 1, 4) and build().durations == ()
    logits = model.joiner(torch.randn(2, 5, 1, 12), torch.randn(2, 1, 3, 12))
    tokens, durations = model.joiner.split(logits)
    assert tokens.shape == (2, 5, 3, 7) and durations.shape == (2, 5, 3, 3)
    torch.testing.assert_close(torch.cat([tokens, durations], dim=-1), logits)


@pytest.mark.parametrize("durations", [[0], [1, 1], [2, 1], [-1, 1], [0, 33]], ids=str)
def test_durations_that_make_no_sense(durations):
    with pytest.raises(ValueError, match="joiner.durations"):
        build(joiner={"durations": durations})


@pytest.mark.parametrize("durations", [[], [0, 1, 4]], ids=str)
def test_a_blank_apart_is_a_sigmoid_and_labels_share_the_rest(durations):
    joiner = build(joiner={"dim": 12, "blank": "sigmoid", "durations": durations}).joiner
    encoder, predictor = torch.randn(2, 5, 1, 12), torch.randn(2, 1, 3, 12)
    logits, plain = joiner(encoder, predictor), joiner.output_linear(torch.tanh(encoder + predictor))
    blank = plain[..., 0].sigmoid()
    labels = plain[..., 1:7].softmax(-1)
    expected = torch.cat([blank.unsqueeze(-1), (1 - blank).unsqueeze(-1) * labels], dim=-1)
    torch.testing.assert_close(joiner.split(logits)[0].softmax(-1), expected)
    torch.testing.assert_close(joiner.split(logits)[1], plain[..., 7:])
    torch.testing.assert_close(joiner.split(logits)[0][..., 1:].log_softmax(-1), labels.log())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = joiner.split(joiner(encoder, predictor))[0]
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough[..., 1:].exp().sum(-1), torch.ones(2, 5, 3))


def test_ctc_log_probs_are_normalised():
    model = build()
    log_probs = model.ctc_log_probs(model.encode(torch.randn(2, 50, 20), torch.tensor([50, 31])))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))


def test_without_ctc_head_the_error_says_what_to_do():
    model = build(ctc=None)
    with pytest.raises(ValueError, match="no CTC head"):
        model.ctc_log_probs(model.encode(torch.randn(1, 50, 20), torch.tensor([50])))


def test_an_unknown_encoder_is_answered_with_the_known_ones():
    with pytest.raises(ValueError) as error:
        build(encoder={"type": "conformr"})
    assert all(name in str(error.value) for name in ENCODERS)


def test_on_step_reaches_an_encoder_that_wants_it():
    model = build()
    model.on_step(3)
    seen = []
    model.encoder.set_step = seen.append
    model.on_step(7)
    assert seen == [7]
