"""The recursion of TDT against every path written out, and against the paper's equation, in value, gradient and posteriors."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.losses.lattice import tdt_forward_backward
from tests.losses.brute_force import tdt_log_prob, tdt_scores

DURATIONS = [(0, 1), (0, 1, 2, 3, 4), (1, 2), (0, 2), (0, 1, 4), (2, 3), (1,)]
LENS = [([1], [0]), ([1], [1]), ([1], [3]), ([4], [0]), ([4, 1, 3], [3, 2, 0]), ([2, 5], [4, 1]), ([3, 3], [0, 0]), ([5, 4], [2, 3])]


def random_arcs(frame_lens, token_lens, durations, padding=float("nan"), seed=0):
    torch.manual_seed(seed)
    shape = len(frame_lens), max(frame_lens), max(token_lens) + 1
    blank, label = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    duration = torch.randn(len(durations), *shape, dtype=torch.float64)
    for row, (frames, tokens) in enumerate(zip(frame_lens, token_lens)):
        for arcs, last in ((blank, tokens + 1), (label, tokens), *((part, tokens + 1) for part in duration)):
            arcs[row, frames:] = padding
            arcs[row, :, last:] = padding
    return [blank.requires_grad_(), label.requires_grad_(), duration.requires_grad_()], [torch.tensor(frame_lens), torch.tensor(token_lens)]


def check(frame_lens, token_lens, durations, seed=0):
    arcs, lens = random_arcs(frame_lens, token_lens, durations, seed=seed)
    out = tdt_forward_backward(*arcs, *lens, durations)
    weights = torch.arange(1.0, len(frame_lens) + 1, dtype=torch.float64)
    gradients = torch.autograd.grad((out.log_prob_B * weights).sum(), arcs)
    for row, (frames, tokens) in enumerate(zip(frame_lens, token_lens)):
        slow = [part[..., row, :, :].detach().clone().requires_grad_() for part in arcs]
        expected = tdt_log_prob(*slow, frames, tokens, durations)
        torch.testing.assert_close(out.log_prob_B[row], expected)
        slow_gradients = torch.autograd.grad(expected, slow, allow_unused=True) if expected.isfinite() else [None] * 3
        for posterior, gradient, one, other in zip(out[1:], gradients, slow_gradients, slow):
            one = torch.zeros_like(other) if one is None else one
            torch.testing.assert_close(posterior[..., row, :, :], one)
            torch.testing.assert_close(gradient[..., row, :, :], weights[row] * one)


@pytest.mark.parametrize("durations", DURATIONS, ids=str)
@pytest.mark.parametrize("frame_lens, token_lens", LENS, ids=str)
def test_equals_every_path(frame_lens, token_lens, durations):
    check(frame_lens, token_lens, durations)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=3),
    st.sets(st.integers(0, 6), min_size=1, max_size=4).filter(lambda found: max(found) > 0), st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_equals_every_path_at_any_shape(lens, durations, seed):
    check([frames for frames, _ in lens], [tokens for _, tokens in lens], tuple(sorted(durations)), seed)


def as_in_the_paper(blank, label, duration, frames, tokens, durations):
    """Forward variables by the paper's recursion, node by node, for one utterance."""
    start = blank.new_zeros(())
    forward = {(0, 0): start}
    for s in range(frames):
        for u in range(tokens + 1):
            arriving = [] if (s, u) != (0, 0) else [start]
            for i, d in enumerate(durations):
                if d > 0 and (s - d, u) in forward:
                    arriving.append(forward[s - d, u] + blank[s - d, u] + duration[i, s - d, u])
                if (s - d, u - 1) in forward:
                    arriving.append(forward[s - d, u - 1] + label[s - d, u - 1] + duration[i, s - d, u - 1])
            if arriving:
                forward[s, u] = torch.stack(arriving).logsumexp(0)
    return torch.stack([
        forward[frames - d, tokens] + blank[frames - d, tokens] + duration[i, frames - d, tokens]
        for i, d in enumerate(durations) if d > 0 and (frames - d, tokens) in forward
    ]).logsumexp(0)


@pytest.mark.parametrize("durations", [(0, 1, 2, 3, 4), (1, 2, 3), (0, 1, 2, 4, 8)], ids=str)
def test_equals_the_equation_of_the_paper_at_size(durations):
    arcs, lens = random_arcs([25, 17], [9, 6], durations)
    out = tdt_forward_backward(*arcs, *lens, durations)
    gradients = torch.autograd.grad(out.log_prob_B.sum(), arcs)
    expected = torch.stack([
        as_in_the_paper(*(part[..., row, :, :] for part in arcs), frames, tokens, durations)
        for row, (frames, tokens) in enumerate(((25, 9), (17, 6)))
    ])
    torch.testing.assert_close(out.log_prob_B, expected)
    for one, other in zip(gradients, torch.autograd.grad(expected.sum(), arcs)):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("durations", [(0, 1, 3), (1, 2)], ids=str)
def test_gradcheck(durations):
    arcs, lens = random_arcs([4, 3], [2, 1], durations, padding=0.0)
    assert torch.autograd.gradcheck(lambda *arcs: tdt_forward_backward(*arcs, *lens, durations).log_prob_B, arcs)


def test_float32_keeps_up_with_float64_where_probabilities_are_tiny():
    arcs, lens = random_arcs([200, 150], [40, 30], (0, 1, 2, 3, 4), padding=0.0)
    arcs = [20 * part.detach() for part in arcs]
    exact = tdt_forward_backward(*arcs, *lens, (0, 1, 2, 3, 4))
    rough = tdt_forward_backward(*(part.float() for part in arcs), *lens, (0, 1, 2, 3, 4))
    torch.testing.assert_close(rough.log_prob_B.double(), exact.log_prob_B, rtol=1e-5, atol=0)
    torch.testing.assert_close(rough.label_posterior_BSW.double(), exact.label_posterior_BSW, rtol=0, atol=5e-3)


@pytest.mark.parametrize("durations, frames, tokens", [((0, 2), 3, 1), ((1, 2), 3, 3), ((2, 3), 1, 0), ((1,), 4, 4)], ids=str)
def test_impossible_is_minus_infinity_with_zero_gradient(durations, frames, tokens):
    arcs, lens = random_arcs([frames, 6], [tokens, 1], durations)
    for best in (False, True):
        out = tdt_forward_backward(*arcs, *lens, durations, best)
        assert out.log_prob_B[0] == float("-inf") and out.log_prob_B[1].isfinite()
        for gradient in torch.autograd.grad(out.log_prob_B.sum(), arcs):
            assert gradient.isfinite().all()
            assert not gradient[..., 0, :, :].any() and gradient[..., 1, :, :].any()


@pytest.mark.parametrize("durations", [(0, 1, 2, 3, 4), (1, 2)], ids=str)
def test_arcs_of_probability_zero(durations):
    arcs, lens = random_arcs([5], [2], durations)
    with torch.no_grad():
        arcs[0][0, 2, 1] = arcs[1][0, 0, 0] = arcs[2][1, 0, 1, 1] = float("-inf")
    out = tdt_forward_backward(*arcs, *lens, durations)
    torch.testing.assert_close(out.log_prob_B[0], tdt_log_prob(arcs[0][0], arcs[1][0], arcs[2][:, 0], 5, 2, durations))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out.log_prob_B.sum(), arcs))


@pytest.mark.parametrize("durations", [(0, 1, 2, 3, 4), (1, 2, 4), (0, 2)], ids=str)
def test_an_alignment_emits_each_token_once_and_covers_every_frame(durations):
    arcs, lens = random_arcs([30, 20], [7, 6], durations)
    out = tdt_forward_backward(*arcs, *lens, durations)
    emitted = out.label_posterior_BSW.sum(1)[:, :-1]
    torch.testing.assert_close(emitted, (torch.arange(7) < lens[1].unsqueeze(1)).double())
    covered = sum(d * posterior.sum((1, 2)) for d, posterior in zip(durations, out.duration_posterior_LBSW))
    torch.testing.assert_close(covered, lens[0].double())
    torch.testing.assert_close(out.duration_posterior_LBSW.sum(0), out.blank_posterior_BSW + out.label_posterior_BSW)


@pytest.mark.parametrize("durations", [(0, 1, 2, 3, 4), (1, 2), (0, 1, 4)], ids=str)
def test_the_best_alignment_is_the_best_path(durations):
    lens = [(5, 2), (3, 1), (4, 0)]
    arcs, tensors = random_arcs([frames for frames, _ in lens], [tokens for _, tokens in lens], durations)
    out = tdt_forward_backward(*arcs, *tensors, durations, best=True)
    gradients = torch.autograd.grad(out.log_prob_B.sum(), arcs)
    for row, (frames, tokens) in enumerate(lens):
        score, path = max(tdt_scores(*(part[..., row, :, :] for part in arcs), frames, tokens, durations), key=lambda found: found[0])
        torch.testing.assert_close(out.log_prob_B[row], score)
        for kind, taken in (("blank", out.blank_posterior_BSW[row]), ("label", out.label_posterior_BSW[row])):
            assert taken.nonzero().tolist() == sorted([s, u] for what, s, u, _ in path if what == kind)
        assert sorted(out.duration_posterior_LBSW[:, row].nonzero().tolist()) == sorted([index, s, u] for _, s, u, index in path)
    for gradient, posterior in zip(gradients, out[1:]):
        assert torch.equal(gradient, posterior)
