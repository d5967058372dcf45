"""Minimum word error rate: its parts written out, the candidates and their errors, and that it lowers what it is about."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from asr.decode.modified_beam import ModifiedBeam
from asr.experiment import SearchedCandidates
from asr.losses.mwer import Candidate, Mwer, expected_errors
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.rnnt import Rnnt
from asr.losses.tdt import Tdt
from asr.types import EncoderOut, Targets
from tests.losses.batches import make_batch

INF = float("inf")
LETTERS = SimpleNamespace(decode=lambda tokens: "".join(" ab cdefg"[token] for token in tokens))
"""Token 3 is the space between words."""


def test_expected_errors_are_those_of_the_definition():
    log_probs = torch.tensor([[-3.0, -5.0, -4.0], [-2.0, -INF, -1.0], [-INF, -INF, -INF]], dtype=torch.float64, requires_grad=True)
    errors = torch.tensor([[0.0, 3.0, 1.0], [2.0, 9.0, 0.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    risk, expected = expected_errors(log_probs, errors)
    for row, kept in ((0, [0, 1, 2]), (1, [0, 2])):
        share = log_probs[row, kept].exp() / log_probs[row, kept].exp().sum()
        torch.testing.assert_close(expected[row], (share * errors[row, kept]).sum())
        torch.testing.assert_close(risk[row], (share * (errors[row, kept] - errors[row, kept].mean())).sum())
    assert risk[2] == INF
    (gradient,) = torch.autograd.grad(risk[:2].sum(), log_probs)
    share = log_probs.detach().masked_fill(torch.tensor([[False], [False], [True]]), 0.0).softmax(1)
    by_hand = share * (errors - expected.detach().unsqueeze(1))  # Prabhavalkar et al., eq. 6
    torch.testing.assert_close(gradient[:2], by_hand[:2])
    assert not gradient[2].any()


@pytest.mark.parametrize("kind", ["rnnt", "pruned_rnnt", "tdt"])
def test_the_loss_written_out(model, tdt_model, kind):
    """Each candidate scored by itself."""
    net = tdt_model if kind == "tdt" else model
    config = Mwer.Config.model_validate({"likelihood": {"type": kind}, "likelihood_scale": 0.2, "unit": "tokens", "beam": 3})
    loss = Mwer(config, net)
    loss.nbest = SearchedCandidates(net, None)
    encoder_out, targets = make_batch([7, 5, 4], [3, 2, 0], padding=float("nan"))
    found = loss.nbest(encoder_out, targets, 3, "tokens")
    assert sum(map(len, found)) == 9
    out = loss(encoder_out, targets, net, step=5000)
    likelihood = {"rnnt": Rnnt, "tdt": Tdt}[kind](config.likelihood, net) if kind != "pruned_rnnt" else loss.likelihood
    totals = []
    for row, (frames, candidates) in enumerate(zip((7, 5, 4), found)):
        alone = EncoderOut(encoder_out.frames_BSD[row : row + 1, :frames], torch.tensor([frames]))
        probs = torch.cat([(-likelihood.nll(alone, Targets.from_lists([c.tokens]), net)).exp() for c in candidates])
        errors = torch.tensor([float(c.errors) for c in candidates])
        transcript = likelihood(alone, Targets.from_lists([targets.to_lists()[row]]), net, step=5000).total_B
        totals.append((probs / probs.sum() * (errors - errors.mean())).sum() + 0.2 * transcript[0])
    torch.testing.assert_close(out.total_B, torch.stack(totals), rtol=1e-4, atol=1e-4)
    wanted = [encoder_out.frames_BSD, *net.joiner.parameters(), *net.predictor.parameters()]
    for one, other in zip(torch.autograd.grad(out.total_B.sum(), wanted), torch.autograd.grad(torch.stack(totals).sum(), wanted)):
        torch.testing.assert_close(one, other.nan_to_num(), rtol=1e-3, atol=1e-4)


def test_candidates_are_the_beam_s_with_their_edit_distances(model):
    encoder_out, _ = make_batch([7, 5], [0, 0], padding=float("nan"))
    search = ModifiedBeam(ModifiedBeam.Config(beam=4), model, None)
    found = [[h.tokens for h in hypotheses] for hypotheses in search.decode(encoder_out)]
    targets = Targets.from_lists([list(found[0][1]), [1, 3, 2]])
    candidates = SearchedCandidates(model, LETTERS)
    assert model.predictor.training, "as the model of a training step"
    for unit in ("tokens", "words"):
        lists = candidates(encoder_out, targets, 4, unit)
        assert [[candidate.tokens for candidate in row] for row in lists] == found
        assert lists[0][1].errors == 0 and model.predictor.training
        for candidate in lists[1]:
            parts = [list(s) if unit == "tokens" else LETTERS.decode(s).split() for s in ([1, 3, 2], candidate.tokens)]
            assert candidate.errors == distance(*parts)


def distance(ref, hyp):
    """Levenshtein, by the definition."""
    if not ref or not hyp:
        return len(ref) + len(hyp)
    return min(distance(ref[1:], hyp) + 1, distance(ref, hyp[1:]) + 1, distance(ref[1:], hyp[1:]) + (ref[0] != hyp[0]))


def test_a_candidate_out_of_reach_does_not_count(model):
    """Of three tokens in one frame, windows of two hold none; an utterance with no other candidate is masked."""
    loss = Mwer(Mwer.Config(likelihood=PrunedRnnt.Config(range=2), unit="tokens"), model)
    near, far = Candidate((1,), 2), Candidate((1, 2, 3), 0)
    encoder_out, targets = make_batch([1, 1], [1, 1])
    loss.nbest = lambda *_: [[near, far], [far]]
    out = loss(encoder_out, targets, model, step=0)
    assert out.parts["errors"][0] == 2.0 and out.total_B.isfinite().tolist() == [True, False]
    torch.where(out.total_B.isfinite(), out.total_B, torch.zeros(2)).sum().backward()
    assert encoder_out.frames_BSD.grad.isfinite().all()
    model.zero_grad()


def test_training_lowers_the_expected_errors(model):
    encoder_out, targets = make_batch([8, 6, 7], [3, 2, 3])
    frames = nn.Parameter(encoder_out.frames_BSD.detach().clone())
    loss = Mwer(Mwer.Config(unit="tokens", likelihood_scale=1e-4), model)
    loss.nbest = SearchedCandidates(model, None)
    optimizer, seen = torch.optim.Adam([frames], lr=0.1), []
    for step in range(30):
        out = loss(EncoderOut(frames, encoder_out.lens_B), targets, model, step=step)
        optimizer.zero_grad()
        out.total_B.sum().backward()
        optimizer.step()
        seen.append(float(out.parts["errors"].sum()))
    model.zero_grad()
    assert seen[-1] < 0.7 * seen[0]
