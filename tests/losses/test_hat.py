"""Transducer losses of a model with blank apart (HAT), against every path of a lattice whose probabilities are factorised by hand."""
from __future__ import annotations

import pytest
import torch

from asr import fsa
from asr.losses.arcs import next_tokens
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.pruned_tdt import PrunedTdt
from asr.losses.rnnt import Rnnt
from asr.losses.tdt import Tdt
from asr.types import EncoderOut
from tests.losses.batches import make_batch
from tests.losses.brute_force import log_prob, tdt_log_prob
from tests.losses.conftest import DURATIONS, build

LENS = [(5, 2), (3, 1), (1, 0)]


def factorised(model, encoder_out, targets):
    """Log-probabilities of blank, of the next label, and of durations, at every pair of a frame and a token."""
    joiner, vocab = model.joiner, model.vocab_size
    encoder = joiner.encoder_proj(encoder_out.frames_BSD).unsqueeze(2)
    logits = joiner.output_linear(torch.tanh(encoder + joiner.predictor_proj(model.predictor(targets.tokens_BU)).unsqueeze(1)))
    blank = logits[..., 0].sigmoid()
    labels = (1 - blank).unsqueeze(-1) * logits[..., 1:vocab].softmax(-1)
    index = (next_tokens(targets) - 1).clamp(min=0)[:, None, :, None].expand(-1, logits.shape[1], -1, -1)
    return blank.log(), labels.gather(-1, index).squeeze(-1).log(), logits[..., vocab:].log_softmax(-1).permute(3, 0, 1, 2)


LOSSES = [
    (Rnnt, {}), (Rnnt, {"topology": "modified"}), (Rnnt, {"topology": "constrained"}), (PrunedRnnt, {"range": 50}),
    (Tdt, {"sigma": 0.0}), (PrunedTdt, {"range": 50, "sigma": 0.0}),
]
if fsa.available():
    LOSSES.append((PrunedRnnt, {"range": 50, "engine": "k2"}))


@pytest.mark.parametrize("kind, config", LOSSES, ids=str)
def test_equals_every_path_of_the_factorised_lattice(kind, config):
    model = build(blank="sigmoid", durations=DURATIONS if "tdt" in kind.Config().type else [])
    encoder_out, targets = make_batch([frames for frames, _ in LENS], [tokens for _, tokens in LENS])
    found = kind(kind.Config(**config), model).nll(encoder_out, targets, model)
    blank, label, durations = factorised(model, encoder_out, targets)
    expected = torch.stack([
        -tdt_log_prob(blank[row], label[row], durations[:, row], *lens, model.durations) if model.durations
        else -log_prob(blank[row], label[row], *lens, config.get("topology", "regular"))
        for row, lens in enumerate(LENS)
    ])
    torch.testing.assert_close(found, expected)
    wanted = [encoder_out.frames_BSD, *model.joiner.parameters(), *model.predictor.parameters()]
    for one, other in zip(torch.autograd.grad(found.sum(), wanted), torch.autograd.grad(expected.sum(), wanted)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [Rnnt, PrunedRnnt, Tdt, PrunedTdt], ids=lambda kind: kind.Config().type)
def test_gradcheck_and_padding(kind):
    model = build(blank="sigmoid", dim=3, durations=DURATIONS if "tdt" in kind.Config().type else []).double()
    loss = kind(kind.Config(), model).double()
    encoder_out, targets = make_batch([4, 3], [2, 1])
    frames = (0.3 * encoder_out.frames_BSD.detach()).double().requires_grad_()

    def total(frames, *_):
        return loss(EncoderOut(frames, encoder_out.lens_B), targets, model, step=0).total_B

    assert torch.autograd.gradcheck(total, (frames, *model.joiner.parameters(), *loss.parameters()), fast_mode=True)
    dirty = frames.detach().clone()
    dirty[1, 3:] = float("nan")
    torch.testing.assert_close(total(dirty), total(frames))
