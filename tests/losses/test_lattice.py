"""The forward-backward recursion against every path written out, in value, gradient and posteriors."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.losses.lattice import forward_backward
from tests.losses.brute_force import log_prob, scores

TOPOLOGIES = ["regular", "modified", "constrained"]


def random_arcs(frame_lens, token_lens, padding=float("nan"), seed=0):
    torch.manual_seed(seed)
    shape = len(frame_lens), max(frame_lens), max(token_lens) + 1
    blank, label = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    for row, (frames, tokens) in enumerate(zip(frame_lens, token_lens)):
        for arcs, last in ((blank, tokens + 1), (label, tokens)):
            arcs[row, frames:] = padding
            arcs[row, :, last:] = padding
    return blank.requires_grad_(), label.requires_grad_(), torch.tensor(frame_lens), torch.tensor(token_lens)


def check(frame_lens, token_lens, topology, seed=0):
    blank, label, *lens = random_arcs(frame_lens, token_lens, seed=seed)
    out = forward_backward(blank, label, *lens, topology)
    weights = torch.arange(1.0, len(frame_lens) + 1, dtype=torch.float64)
    gradients = torch.autograd.grad((out.log_prob_B * weights).sum(), [blank, label])
    for row, (frames, tokens) in enumerate(zip(frame_lens, token_lens)):
        slow_blank, slow_label = (arcs[row].detach().clone().requires_grad_() for arcs in (blank, label))
        expected = log_prob(slow_blank, slow_label, frames, tokens, topology)
        torch.testing.assert_close(out.log_prob_B[row], expected)
        label_posterior = out.label_posterior_BSW[row]
        forced = label_posterior.roll(1, dims=1) if topology == "constrained" else torch.zeros_like(label_posterior)
        posteriors = (out.blank_posterior_BSW[row] + forced, label_posterior)
        slow_gradients = [torch.zeros_like(slow_blank)] * 2
        if expected.isfinite() and expected.requires_grad:
            slow_gradients = torch.autograd.grad(expected, [slow_blank, slow_label], allow_unused=True)
            slow_gradients = [torch.zeros_like(slow_blank) if g is None else g for g in slow_gradients]
        for posterior, gradient, slow in zip(posteriors, gradients, slow_gradients):
            torch.testing.assert_close(posterior, slow)
            torch.testing.assert_close(gradient[row], weights[row] * slow)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(
    "frame_lens, token_lens",
    [([1], [0]), ([1], [1]), ([1], [4]), ([5], [0]), ([4, 1, 3], [3, 2, 0]), ([2, 6], [5, 1]), ([3, 3], [0, 0]), ([5, 4], [2, 4])],
    ids=str,
)
def test_equals_every_path(frame_lens, token_lens, topology):
    check(frame_lens, token_lens, topology)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4)), min_size=1, max_size=3),
    st.sampled_from(TOPOLOGIES), st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_equals_every_path_at_any_shape(lens, topology, seed):
    check([frames for frames, _ in lens], [tokens for _, tokens in lens], topology, seed)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_gradcheck(topology):
    blank, label, *lens = random_arcs([4, 3], [3, 1], padding=0.0)
    assert torch.autograd.gradcheck(lambda *arcs: forward_backward(*arcs, *lens, topology).log_prob_B, (blank, label))


def test_impossible_is_minus_infinity_with_zero_gradient():
    blank, label, *lens = random_arcs([2, 4], [3, 3])
    out = forward_backward(blank, label, *lens, "modified")
    assert out.log_prob_B[0] == float("-inf") and out.log_prob_B[1].isfinite()
    for gradient in torch.autograd.grad(out.log_prob_B.sum(), [blank, label]):
        assert gradient.isfinite().all()
        assert not gradient[0].any() and gradient[1].any()
    best = forward_backward(blank, label, *lens, "modified", best=True)
    assert best.log_prob_B[0] == float("-inf") and not best.label_posterior_BSW[0].any() and best.label_posterior_BSW[1].sum() == 3


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_arcs_of_probability_zero(topology):
    blank, label, *lens = random_arcs([4], [2])
    with torch.no_grad():
        blank[0, 1, 0], label[0, 2, 1] = float("-inf"), float("-inf")
    out = forward_backward(blank, label, *lens, topology)
    torch.testing.assert_close(out.log_prob_B[0], log_prob(blank[0], label[0], 4, 2, topology))
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.log_prob_B.sum(), [blank, label]))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_posteriors_of_a_frame_sum_to_one(topology):
    """Each path takes exactly one blank per frame in the regular topology, and one arc per frame in the others."""
    blank, label, *lens = random_arcs([30, 20], [7, 12])
    out = forward_backward(blank, label, *lens, topology)
    per_frame = out.blank_posterior_BSW.sum(2) + (0 if topology == "regular" else out.label_posterior_BSW.sum(2))
    torch.testing.assert_close(per_frame[0], torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(per_frame[1, :20], torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(out.label_posterior_BSW.sum((1, 2)), torch.tensor([7.0, 12.0], dtype=torch.float64))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_best_alignment_is_the_best_path(topology):
    lens = [(4, 3), (3, 1), (4, 0), (1, 1)]
    blank, label, *tensors = random_arcs([frames for frames, _ in lens], [tokens for _, tokens in lens])
    out = forward_backward(blank, label, *tensors, topology, best=True)
    for row, (frames, tokens) in enumerate(lens):
        score, path = max(scores(blank[row], label[row], frames, tokens, topology), key=lambda found: found[0])
        torch.testing.assert_close(out.log_prob_B[row], score)
        assert out.label_posterior_BSW[row].nonzero().tolist() == sorted([s, u] for kind, s, u in path if kind == "label")
    gradients = torch.autograd.grad(out.log_prob_B.sum(), [blank, label])
    assert torch.equal(gradients[1], out.label_posterior_BSW)
