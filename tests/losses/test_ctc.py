"""CTC and its variants: the recursion against every label sequence written out, and against torch's; priors; consistency."""
from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from asr.losses.ctc import CrCtc, Ctc
from asr.losses.ctc_lattice import ctc_log_prob, ctc_topology
from asr.losses.running_average import RunningAverage
from asr.types import EncoderOut, Targets
from tests.losses.batches import VOCAB, make_batch

RESTRICTIONS = [(0.0, None), (0.7, None), (0.0, 0), (0.0, 1), (0.4, 2)]
SHAPES = [
    ([1], [[]]), ([1], [[2]]), ([2], [[1, 1]]), ([3], [[1, 1]]),
    ([5, 3, 4], [[1, 2], [], [2, 2]]), ([5, 5, 2], [[1, 2, 1], [2], [1, 2, 1]]),
]


def brute_force(scores_SV, tokens, penalty, most):
    """The sum over all label sequences that spell ``tokens``, as a logarithm."""
    found = []
    for labels in itertools.product(range(scores_SV.shape[1]), repeat=len(scores_SV)):
        runs = [(label, len(list(run))) for label, run in itertools.groupby(labels)]
        repeats = [length - 1 for label, length in runs if label]
        if [label for label, _ in runs if label] == tokens and (most is None or max(repeats, default=0) <= most):
            found.append(scores_SV[torch.arange(len(labels)), torch.tensor(labels)].sum() - penalty * sum(repeats))
    return torch.stack(found).logsumexp(0) if found else scores_SV.new_full((), float("-inf"))


def random_scores(frame_lens, vocab=3, padding=float("nan"), seed=0):
    """Not normalised, in float64."""
    torch.manual_seed(seed)
    scores = torch.randn(len(frame_lens), max(frame_lens), vocab, dtype=torch.float64)
    for row, length in enumerate(frame_lens):
        scores[row, length:] = padding
    return scores.requires_grad_()


def check(frame_lens, transcripts, penalty, most, seed=0):
    scores, targets = random_scores(frame_lens, seed=seed), Targets.from_lists(transcripts)
    log_prob_B = ctc_log_prob(scores, torch.tensor(frame_lens), ctc_topology(targets, penalty, most, torch.float64))
    weights = torch.arange(1.0, len(frame_lens) + 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((log_prob_B * weights).sum(), scores)
    for row, (frames, tokens) in enumerate(zip(frame_lens, transcripts)):
        slow = scores[row, :frames].detach().clone().requires_grad_()
        expected = brute_force(slow, tokens, penalty, most)
        torch.testing.assert_close(log_prob_B[row], expected)
        slow_gradient = torch.autograd.grad(expected, slow)[0] if expected.isfinite() else torch.zeros_like(slow)
        torch.testing.assert_close(gradient[row, :frames], weights[row] * slow_gradient)
        assert not gradient[row, frames:].any()


@pytest.mark.parametrize("penalty, most", RESTRICTIONS)
@pytest.mark.parametrize("frame_lens, transcripts", SHAPES, ids=str)
def test_equals_every_label_sequence(frame_lens, transcripts, penalty, most):
    check(frame_lens, transcripts, penalty, most)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(1, 2), max_size=3)), min_size=1, max_size=3),
    st.sampled_from(RESTRICTIONS), st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_equals_every_label_sequence_at_any_shape(utterances, restriction, seed):
    check([frames for frames, _ in utterances], [tokens for _, tokens in utterances], *restriction, seed)


@pytest.mark.parametrize("penalty, most", RESTRICTIONS)
def test_gradcheck(penalty, most):
    scores, lens = random_scores([4, 3], padding=0.0), torch.tensor([4, 3])
    topology = ctc_topology(Targets.from_lists([[1, 2], [2, 2]]), penalty, most, torch.float64)
    assert torch.autograd.gradcheck(lambda scores: ctc_log_prob(scores, lens, topology), scores)


@pytest.mark.parametrize("most", [None, 59])
def test_without_restrictions_it_is_torch_s(most):
    torch.manual_seed(0)
    logits = (3 * torch.randn(3, 60, 7)).requires_grad_()
    lens, targets = torch.tensor([60, 41, 12]), Targets.from_lists([torch.randint(1, 7, (n,)).tolist() for n in (20, 15, 0)])
    ours = -ctc_log_prob(logits.log_softmax(2), lens, ctc_topology(targets, max_repeats=most))
    theirs = F.ctc_loss(logits.log_softmax(2).transpose(0, 1), targets.tokens_BU, lens, targets.lens_B, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    for one, other in zip(*(torch.autograd.grad(loss.sum(), logits) for loss in (ours, theirs))):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_float32_keeps_up_with_float64_where_probabilities_are_tiny():
    scores = 20 * random_scores([300, 200], vocab=6, padding=0.0).detach()
    lens, targets = torch.tensor([300, 200]), Targets.from_lists([torch.randint(1, 6, (n,)).tolist() for n in (60, 40)])
    exact, rough = (ctc_log_prob(s, lens, ctc_topology(targets, 0.5, 2, s.dtype)) for s in (scores, scores.float()))
    torch.testing.assert_close(rough.double(), exact, rtol=1e-5, atol=0)


def test_scores_of_minus_infinity():
    scores = random_scores([5])
    with torch.no_grad():
        scores[0, 2, 1] = scores[0, 0, 0] = float("-inf")
    log_prob_B = ctc_log_prob(scores, torch.tensor([5]), ctc_topology(Targets.from_lists([[1, 2]]), dtype=torch.float64))
    torch.testing.assert_close(log_prob_B[0], brute_force(scores[0], [1, 2], 0.0, None))
    assert torch.autograd.grad(log_prob_B.sum(), scores)[0].isfinite().all()


def test_restrictions_turn_repeats_into_blanks(model):
    encoder_out, targets = make_batch([40], [5])
    log_probs = model.ctc_log_probs(encoder_out).detach().requires_grad_()
    blanks = []
    for penalty, most in ((0.0, None), (2.0, None), (0.0, 0)):
        log_prob_B = ctc_log_prob(log_probs, encoder_out.lens_B, ctc_topology(targets, penalty, most))
        blanks.append(float(torch.autograd.grad(log_prob_B.sum(), log_probs)[0][..., 0].sum()))
    assert blanks[0] < blanks[1] < blanks[2] and blanks[2] == pytest.approx(35, abs=1e-3)


def test_the_prior_is_divided_out(model):
    loss = Ctc(Ctc.Config(prior_scale=0.3), model)
    encoder_out, targets = make_batch([14, 9], [6, 3])
    plain = Ctc(Ctc.Config(), model)(encoder_out, targets, model, step=0).total_B
    uniform = loss(encoder_out, targets, model, step=0).total_B
    torch.testing.assert_close(uniform, plain - 0.3 * torch.tensor([14, 9]) * torch.tensor(VOCAB).log())
    loss.prior.mean_V.copy_(torch.arange(1.0, VOCAB + 1) / sum(range(VOCAB + 1)))
    scores = model.ctc_log_probs(encoder_out).detach() - 0.3 * loss.prior.mean_V.log()
    expected = -ctc_log_prob(scores, encoder_out.lens_B, ctc_topology(targets))
    torch.testing.assert_close(loss(encoder_out, targets, model, step=0).total_B, expected)


def test_the_prior_follows_the_posteriors_of_training(model):
    loss = Ctc(Ctc.Config(prior_scale=0.3, prior_decay=0.75), model)
    encoder_out, targets = make_batch([14, 9, 2], [6, 3, 5], padding=float("nan"))
    start_V = loss.prior.mean_V.clone()
    assert loss(encoder_out, targets, model, step=0).total_B[2] == float("inf")
    loss.eval()
    loss(encoder_out, targets, model, step=0)
    assert torch.equal(loss.prior.mean_V, start_V), "it changes when the step ends"
    loss.prior.end_step(lambda total: total)
    posteriors = model.ctc_log_probs(encoder_out).exp()
    average_V = torch.cat([posteriors[0], posteriors[1, :9]]).mean(0)
    torch.testing.assert_close(loss.prior.mean_V, 0.75 * start_V + 0.25 * average_V)
    assert set(loss.state_dict()) == {"prior.mean_V"}


def test_an_average_over_a_step_does_not_depend_on_how_it_is_cut():
    rows = torch.rand(7, 3)
    one, two, other = (RunningAverage(torch.full((3,), 0.5), 0.9) for _ in range(3))
    one.add(rows)
    one.end_step(lambda total: total)
    for part in rows[:2], rows[2:4]:
        two.add(part)
    other.add(rows)
    other.forget()
    other.add(rows[4:])
    two.end_step(lambda total: total + torch.cat([other._sum_V, other._count]))
    torch.testing.assert_close(one.mean_V, two.mean_V)
    before = one.mean_V.clone()
    one.end_step(lambda total: total)
    assert torch.equal(one.mean_V, before), "a step without frames leaves it as it is"


def two_copies(frame_lens, token_lens):
    (one, targets), (other, _) = (make_batch(frame_lens, token_lens, padding=float("nan"), seed=seed) for seed in (0, 1))
    frames = torch.cat([one.frames_BSD, other.frames_BSD]).detach().requires_grad_()
    return EncoderOut(frames, one.lens_B.repeat(2), copies=2), Targets(targets.tokens_BU.repeat(2, 1), targets.lens_B.repeat(2))


def test_cr_ctc_written_out(model):
    encoder_out, targets = two_copies([14, 9, 5], [6, 3, 0])
    loss = CrCtc(CrCtc.Config(consistency=0.3), model)
    out = loss(encoder_out, targets, model, step=0)
    plain = Ctc(Ctc.Config(), model)(encoder_out, targets, model, step=0).total_B
    log_probs = model.ctc_log_probs(EncoderOut(encoder_out.frames_BSD.nan_to_num(), encoder_out.lens_B))
    divergences = []
    for row, frames in enumerate(encoder_out.lens_B.tolist()):
        own, other = log_probs[row, :frames], log_probs[(row + 3) % 6, :frames].detach()
        divergences.append((other.exp() * (other - own)).sum())
    expected = plain + 0.3 * torch.stack(divergences)
    torch.testing.assert_close(out.total_B, expected)
    torch.testing.assert_close(out.total_B.detach(), out.parts["alignments"] + 0.3 * out.parts["consistency"])
    assert (out.parts["consistency"] > 0).all()
    one, other = (torch.autograd.grad(total.sum(), encoder_out.frames_BSD)[0] for total in (out.total_B, expected))
    torch.testing.assert_close(one, other.nan_to_num())


def test_cr_ctc_of_a_single_copy_is_ctc(model):
    encoder_out, targets = make_batch([14, 9], [6, 3])
    out = CrCtc(CrCtc.Config(), model)(encoder_out, targets, model, step=0)
    torch.testing.assert_close(out.total_B, Ctc(Ctc.Config(), model)(encoder_out, targets, model, step=0).total_B)
    assert not out.parts["consistency"].any()
