"""Pruned RNN-T: the full range is the full loss; the windows keep their promises; the simple joiner is what it abbreviates."""
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.losses.lattice import forward_backward
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.rnnt import Rnnt
from asr.losses.simple_joiner import pruning_window, smoothed_arcs
from tests.losses.batches import VOCAB, make_batch

TOPOLOGIES = ["regular", "modified"]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_full_range_is_the_full_loss(model, topology):
    encoder_out, targets = make_batch([14, 9, 5], [6, 3, 0])
    pruned = PrunedRnnt(PrunedRnnt.Config(range=100, topology=topology), model)(encoder_out, targets, model, step=0)
    full = Rnnt(Rnnt.Config(topology=topology), model)(encoder_out, targets, model, step=0)
    torch.testing.assert_close(pruned.parts["pruned"], full.total_B)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_narrower_range_has_no_more_probability(model, topology):
    encoder_out, targets = make_batch([14, 9, 8], [6, 5, 7])
    by_range = []
    for width in (2, 4, 8):
        torch.manual_seed(0)
        loss = PrunedRnnt(PrunedRnnt.Config(range=width, topology=topology), model)
        by_range.append(loss(encoder_out, targets, model, step=0).parts["pruned"])
    full = Rnnt(Rnnt.Config(topology=topology), model)(encoder_out, targets, model, step=0).total_B
    assert all((pruned >= full - 1e-4).all() for pruned in by_range)
    torch.testing.assert_close(by_range[-1], full)


@pytest.mark.parametrize("am_scale, lm_scale", [(0.0, 0.0), (0.0, 0.25), (0.1, 0.0), (0.1, 0.3)])
def test_simple_arcs_are_the_softmax_of_the_sum(am_scale, lm_scale):
    torch.manual_seed(0)
    am, lm = 5 * torch.randn(2, 6, VOCAB, dtype=torch.float64), 5 * torch.randn(2, 4, VOCAB, dtype=torch.float64)
    labels, valid = torch.randint(1, VOCAB, (2, 4)), torch.tensor([[True] * 4, [True, True, False, False]])
    blank, label = smoothed_arcs(am, lm, labels, valid, am_scale, lm_scale)
    unigram = lm.softmax(-1)[valid].mean(0).log()
    log_probs = (1 - am_scale - lm_scale) * (am.unsqueeze(2) + lm.unsqueeze(1)).log_softmax(-1)
    log_probs = log_probs + am_scale * (am + unigram).log_softmax(-1).unsqueeze(2) + lm_scale * lm.log_softmax(-1).unsqueeze(1)
    torch.testing.assert_close(blank, log_probs[..., 0])
    torch.testing.assert_close(label, log_probs.gather(-1, labels.view(2, 1, 4, 1).expand(2, 6, 4, 1)).squeeze(-1))


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 10)), min_size=1, max_size=4),
    st.integers(2, 6), st.sampled_from(TOPOLOGIES), st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_windows_start_at_zero_end_with_the_transcript_and_never_skip(lens, width, topology, seed):
    torch.manual_seed(seed)
    frame_lens, token_lens = (torch.tensor(column) for column in zip(*lens))
    rows = int(token_lens.max()) + 1
    width = min(width, rows)
    step = 1 if topology == "modified" else width - 1
    arcs = [3 * torch.randn(len(lens), int(frame_lens.max()), rows) for _ in range(2)]
    out = forward_backward(*arcs, frame_lens, token_lens, topology)
    first_BS = pruning_window(out.blank_posterior_BSW, out.label_posterior_BSW, frame_lens, token_lens, width, step)
    assert (first_BS[:, 0] == 0).all()
    assert (first_BS.diff(dim=1) >= 0).all() and (first_BS.diff(dim=1) <= step).all()
    assert (first_BS + width <= rows).all()
    for row, (frames, tokens) in enumerate(lens):
        if tokens <= step * (frames - 1) + width - 1:
            assert int(first_BS[row, frames - 1]) == max(0, tokens + 1 - width)


def test_a_window_keeps_the_most_probability():
    """Where nothing needs adjusting, the window is the best one by its definition, found here by trying all."""
    torch.manual_seed(0)
    frames, tokens, width = 30, 8, 4
    arcs = [torch.randn(1, frames, tokens + 1) for _ in range(2)]
    out = forward_backward(*arcs, torch.tensor([frames]), torch.tensor([tokens]), "regular")
    first_S = pruning_window(
        out.blank_posterior_BSW, out.label_posterior_BSW, torch.tensor([frames]), torch.tensor([tokens]), width, width - 1
    )[0]
    blank, label = out.blank_posterior_BSW[0], out.label_posterior_BSW[0]
    best = []
    for s in range(frames - 1):
        kept = [float(blank[s, p : p + width].sum() - (label[s, p - 1] if p else 0.0)) for p in range(tokens + 2 - width)]
        best.append(max(range(len(kept)), key=kept.__getitem__))
    monotone = all(a <= b <= a + width - 1 for a, b in zip(best, best[1:]))
    assert monotone and best[0] == 0, "choose another seed: this one needs adjusting"
    assert first_S[:-1].tolist() == best


def test_warm_up_goes_from_the_simple_to_the_pruned_loss(model):
    loss = PrunedRnnt(PrunedRnnt.Config(warmup_steps=100, simple_scale=0.5), model)
    assert loss.scales(0) == (1.0, 0.1)
    assert loss.scales(50) == pytest.approx((0.75, 0.55))
    assert loss.scales(100) == loss.scales(9999) == (0.5, 1.0)
    encoder_out, targets = make_batch([14, 9], [6, 3])
    out = loss(encoder_out, targets, model, step=50)
    torch.testing.assert_close(out.total_B.detach(), 0.75 * out.parts["simple"] + 0.55 * out.parts["pruned"])
