"""The attention loss against its definition, and a model that learns a few utterances by heart."""
from __future__ import annotations

import pytest
import torch

from asr.losses.attention import AttentionLoss
from asr.models.transducer import Transducer
from asr.types import EncoderOut, Targets
from tests.losses.batches import VOCAB, make_batch


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_it_is_the_smoothed_cross_entropy_of_each_token_and_of_the_end(model, smoothing):
    encoder_out, targets = make_batch([9, 5, 4], [4, 2, 0], padding=float("nan"))
    found_B = AttentionLoss(AttentionLoss.Config(smoothing=smoothing), model)(encoder_out, targets, model, step=0).total_B
    for row, tokens in enumerate(targets.to_lists()):
        length = int(encoder_out.lens_B[row])
        alone = EncoderOut(encoder_out.frames_BSD[row : row + 1, :length], torch.tensor([length]))
        expected = 0.0
        for u, label in enumerate([*tokens, 0]):
            log_probs_V = model.attention(torch.tensor([tokens[:u]], dtype=torch.int64), alone)[0, u].log_softmax(-1)
            expected -= float((1 - smoothing) * log_probs_V[label] + smoothing / VOCAB * log_probs_V.sum())
        assert float(found_B[row]) == pytest.approx(expected, abs=1e-4)


def test_a_model_learns_a_few_utterances_by_heart():
    """From the encoder up; then the decoder spells each transcript, its end included, from what it hears."""
    torch.manual_seed(0)
    config = {
        "encoder": {"type": "conformer", "dim": 16, "layers": 1, "heads": 2, "feedforward": 16, "subsampling": {"channels": 4}},
        "predictor": {"type": "stateless", "dim": 8}, "attention": {"dim": 16, "layers": 1, "heads": 2, "feedforward": 32, "dropout": 0.0},
    }
    net = Transducer(Transducer.Config.model_validate(config), feature_dim=20, vocab_size=VOCAB)
    features_BTF, lens_B = 3.5 * torch.randn(4, 48, 20) - 7.0, torch.tensor([48, 40, 44, 31])
    targets = Targets.from_lists([[1, 2, 3, 4], [4, 3], [5, 5, 1], [8]])
    loss = AttentionLoss(AttentionLoss.Config(), net)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(120):
        total = loss(net.encode(features_BTF, lens_B), targets, net, step).total_B.mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    net.eval()
    encoder_out = net.encode(features_BTF, lens_B)
    spelt_BU = torch.zeros(4, 0, dtype=torch.int64)
    for _ in range(6):
        spelt_BU = torch.cat([spelt_BU, net.attention(spelt_BU, encoder_out)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert [row[: row.index(0)] for row in spelt_BU.tolist()] == targets.to_lists()
