"""Our losses against k2's and torchaudio's, in value and gradient."""
from __future__ import annotations

import pytest
import torch

from asr.losses.arcs import next_tokens
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.rnnt import Rnnt
from tests.losses.batches import make_batch

TOPOLOGIES = ["regular", "modified", "constrained"]
CASES = [([14, 9, 12], [6, 3, 5]), ([14, 9, 12], [6, 0, 5]), ([20], [12]), ([30, 30], [7, 7])]


@pytest.fixture(scope="module")
def k2():
    return pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")


def loss_and_gradients(loss, model, frame_lens, token_lens):
    encoder_out, targets = make_batch(frame_lens, token_lens)
    out = loss(encoder_out, targets, model, step=10)
    out.total_B.sum().backward()
    modules = (model.predictor, model.joiner, loss)
    found = [encoder_out.frames_BSD.grad, *(p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None)]
    model.zero_grad()
    return out, found


@pytest.mark.parametrize("frame_lens, token_lens", CASES, ids=str)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("width", [2, 3, 5, 50])
def test_pruned_rnnt_equals_k2(k2, model, topology, width, frame_lens, token_lens):
    runs = []
    for engine in ("torch", "k2"):
        torch.manual_seed(3)
        loss = PrunedRnnt(PrunedRnnt.Config(engine=engine, range=width, topology=topology), model)
        runs.append(loss_and_gradients(loss, model, frame_lens, token_lens))
    (ours, our_gradients), (theirs, their_gradients) = runs
    for part in theirs.parts:
        torch.testing.assert_close(ours.parts[part], theirs.parts[part], rtol=1e-5, atol=1e-4)
    for one, other in zip(our_gradients, their_gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_delay_penalty_equals_k2(k2, model, topology):
    runs = []
    for engine in ("torch", "k2"):
        torch.manual_seed(3)
        loss = PrunedRnnt(PrunedRnnt.Config(engine=engine, delay_penalty=0.1, topology=topology), model)
        runs.append(loss_and_gradients(loss, model, [14, 9, 12], [6, 3, 5]))
    torch.testing.assert_close(runs[0][0].parts, runs[1][0].parts, rtol=1e-5, atol=1e-4)
    for one, other in zip(runs[0][1], runs[1][1]):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_am_smoothing_equals_k2_where_nothing_is_padded(k2, model, topology):
    """k2 averages over padding, too, when it makes the language model that am_scale wants; we do not."""
    runs = []
    for engine in ("torch", "k2"):
        torch.manual_seed(3)
        loss = PrunedRnnt(PrunedRnnt.Config(engine=engine, am_scale=0.2, topology=topology), model)
        runs.append(loss_and_gradients(loss, model, [9, 9], [6, 6]))
    torch.testing.assert_close(runs[0][0].parts, runs[1][0].parts, rtol=1e-5, atol=1e-4)
    for one, other in zip(runs[0][1], runs[1][1]):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def logits_of(model, encoder_out, targets):
    encoder = model.joiner.project_encoder(encoder_out.frames_BSD).unsqueeze(2)
    return model.joiner(encoder, model.joiner.project_predictor(model.predictor(targets.tokens_BU)).unsqueeze(1))


@pytest.mark.parametrize("frame_lens, token_lens", [case for case in CASES if all(case[1])], ids=str)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_rnnt_equals_k2(k2, model, topology, frame_lens, token_lens):
    ours, our_gradients = loss_and_gradients(Rnnt(Rnnt.Config(topology=topology), model), model, frame_lens, token_lens)
    encoder_out, targets = make_batch(frame_lens, token_lens)
    zeros_B = torch.zeros_like(targets.lens_B)
    theirs = k2.rnnt_loss(
        logits_of(model, encoder_out, targets), targets.tokens_BU, 0, rnnt_type=topology, reduction="none",
        boundary=torch.stack([zeros_B, zeros_B, targets.lens_B, encoder_out.lens_B], dim=1),
    )
    torch.testing.assert_close(ours.total_B, theirs, rtol=1e-5, atol=1e-4)
    theirs.sum().backward()
    torch.testing.assert_close(our_gradients[0], encoder_out.frames_BSD.grad, rtol=1e-4, atol=1e-4)
    model.zero_grad()


@pytest.mark.parametrize("frame_lens, token_lens", CASES, ids=str)
def test_rnnt_equals_torchaudio(model, frame_lens, token_lens):
    functional = pytest.importorskip("torchaudio.functional", reason="torchaudio is not installed")
    ours, our_gradients = loss_and_gradients(Rnnt(Rnnt.Config(), model), model, frame_lens, token_lens)
    encoder_out, targets = make_batch(frame_lens, token_lens)
    theirs = functional.rnnt_loss(
        logits_of(model, encoder_out, targets), targets.tokens_BU.int(), encoder_out.lens_B.int(), targets.lens_B.int(),
        blank=0, reduction="none",
    )
    torch.testing.assert_close(ours.total_B, theirs, rtol=1e-5, atol=1e-4)
    theirs.sum().backward()
    torch.testing.assert_close(our_gradients[0], encoder_out.frames_BSD.grad, rtol=1e-4, atol=1e-4)
    model.zero_grad()


def test_rnnt_equals_the_joiner_written_out(model):
    """The packed arcs against a log-softmax over every pair of a frame and a token."""
    from tests.losses.brute_force import log_prob

    encoder_out, targets = make_batch([5, 3], [3, 2])
    log_probs = logits_of(model, encoder_out, targets).log_softmax(-1)
    label = log_probs.gather(-1, next_tokens(targets)[:, None, :, None].expand(-1, 5, -1, 1)).squeeze(-1)
    ours = Rnnt(Rnnt.Config(), model)(encoder_out, targets, model, step=0).total_B
    for row, (frames, tokens) in enumerate(((5, 3), (3, 2))):
        torch.testing.assert_close(ours[row], -log_prob(log_probs[row, :, :, 0], label[row], frames, tokens, "regular"))
