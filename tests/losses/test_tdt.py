"""TDT's losses over a model: the joiner written out, sigma and omega, pruning, and alignments of both kinds of transducer."""
from __future__ import annotations

import pytest
import torch

from asr.losses import align
from asr.losses.arcs import all_arcs, delay_penalised, next_tokens
from asr.losses.lattice import forward_backward, tdt_forward_backward
from asr.losses.pruned_tdt import PrunedTdt
from asr.losses.rnnt import Rnnt
from asr.losses.simple_joiner import pruning_window, reached_rows, smoothed_durations
from asr.losses.tdt import Tdt
from asr.types import EncoderOut
from tests.losses.batches import make_batch
from tests.losses.brute_force import scores, tdt_log_prob, tdt_scores
from tests.losses.conftest import build


def arcs_written_out(model, encoder_out, targets):
    """Log-softmax of tokens and of durations, apart, over every pair of a frame and a token."""
    joiner, vocab = model.joiner, model.vocab_size
    encoder = joiner.encoder_proj(encoder_out.frames_BSD).unsqueeze(2)
    logits = joiner.output_linear(torch.tanh(encoder + joiner.predictor_proj(model.predictor(targets.tokens_BU)).unsqueeze(1)))
    tokens, durations = logits[..., :vocab].log_softmax(-1), logits[..., vocab:].log_softmax(-1)
    label = tokens.gather(-1, next_tokens(targets)[:, None, :, None].expand(-1, tokens.shape[1], -1, -1)).squeeze(-1)
    return tokens[..., 0], label, durations.permute(3, 0, 1, 2)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_tdt_equals_the_joiner_written_out(tdt_model, sigma):
    encoder_out, targets = make_batch([5, 3], [2, 1])
    blank, label, duration = arcs_written_out(tdt_model, encoder_out, targets)
    out = Tdt(Tdt.Config(sigma=sigma), tdt_model)(encoder_out, targets, tdt_model, step=0)
    expected = torch.stack([
        -tdt_log_prob(blank[row] - sigma, label[row] - sigma, duration[:, row], frames, tokens, tdt_model.durations)
        for row, (frames, tokens) in enumerate(((5, 2), (3, 1)))
    ])
    torch.testing.assert_close(out.total_B, expected)
    modules = [encoder_out.frames_BSD, *tdt_model.joiner.parameters(), *tdt_model.predictor.parameters()]
    for one, other in zip(torch.autograd.grad(out.total_B.sum(), modules), torch.autograd.grad(expected.sum(), modules)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_omega_draws_rnnt_in_training_only(tdt_model):
    encoder_out, targets = make_batch([9, 6], [4, 2])
    loss = Tdt(Tdt.Config(omega=0.5), tdt_model)
    tdt = Tdt(Tdt.Config(), tdt_model)(encoder_out, targets, tdt_model, step=0).total_B
    blank, label, _ = arcs_written_out(tdt_model, encoder_out, targets)
    rnnt = -forward_backward(blank, label, encoder_out.lens_B, targets.lens_B, "regular").log_prob_B
    torch.manual_seed(0)
    drawn = [loss(encoder_out, targets, tdt_model, step=0).total_B for _ in range(20)]
    as_rnnt = [torch.allclose(total, rnnt) for total in drawn]
    assert 4 <= sum(as_rnnt) <= 16
    assert all(torch.allclose(total, tdt) for total, is_rnnt in zip(drawn, as_rnnt) if not is_rnnt)
    loss.eval()
    assert all(torch.allclose(loss(encoder_out, targets, tdt_model, step=0).total_B, tdt) for _ in range(10))


@pytest.mark.parametrize("durations", [[0, 1, 2, 4], [1, 3]], ids=str)
@pytest.mark.parametrize("omega", [0.0, 0.999999])
def test_full_range_is_the_full_loss(durations, omega):
    model = build(durations=durations)
    encoder_out, targets = make_batch([14, 9, 5], [6, 3, 0])
    torch.manual_seed(0)
    pruned = PrunedTdt(PrunedTdt.Config(range=100, omega=omega), model)(encoder_out, targets, model, step=0).parts["pruned"]
    full = Tdt(Tdt.Config(omega=omega), model)(encoder_out, targets, model, step=0).total_B
    torch.testing.assert_close(pruned, full)


@pytest.mark.parametrize("durations", [[0, 1, 2, 4], [1, 2, 3]], ids=str)
def test_a_narrower_range_has_no_more_probability(durations):
    model = build(durations=durations)
    encoder_out, targets = make_batch([14, 9, 12], [6, 5, 7])
    by_range = []
    for width in (2, 4, 8):
        torch.manual_seed(0)
        loss = PrunedTdt(PrunedTdt.Config(range=width), model)
        by_range.append(loss(encoder_out, targets, model, step=0).parts["pruned"])
    full = Tdt(Tdt.Config(), model)(encoder_out, targets, model, step=0).total_B
    assert all(pruned.isfinite().all() and (pruned >= full - 1e-4).all() for pruned in by_range)
    torch.testing.assert_close(by_range[-1], full)


@pytest.mark.parametrize("am_scale, lm_scale", [(0.0, 0.0), (0.0, 0.25), (0.1, 0.0), (0.1, 0.3)])
def test_simple_durations_are_the_softmax_of_the_sum(am_scale, lm_scale):
    torch.manual_seed(0)
    am, lm = torch.randn(2, 6, 3, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    found = smoothed_durations(am, lm, valid, am_scale, lm_scale)
    average = lm.softmax(-1)[valid].mean(0).log()
    expected = (1 - am_scale - lm_scale) * (am.unsqueeze(2) + lm.unsqueeze(1)).log_softmax(-1)
    expected = expected + am_scale * (am + average).log_softmax(-1).unsqueeze(2) + lm_scale * lm.log_softmax(-1).unsqueeze(1)
    torch.testing.assert_close(found, expected.permute(3, 0, 1, 2))


def test_rows_reached_are_counted_on_every_path():
    """By all paths of a small lattice: how many tokens were emitted at this frame or before."""
    torch.manual_seed(0)
    durations, frames, tokens = (0, 1, 3), 5, 2
    blank, label, duration = torch.randn(frames, 3), torch.randn(frames, 3), torch.randn(3, frames, 3)
    out = tdt_forward_backward(
        blank.unsqueeze(0), label.unsqueeze(0), duration.unsqueeze(1), torch.tensor([frames]), torch.tensor([tokens]), durations
    )
    expected = torch.zeros(frames, tokens + 1)
    for score, path in tdt_scores(blank, label, duration, frames, tokens, durations):
        emitted = [s for kind, s, _, _ in path if kind == "label"]
        for s in range(frames):
            expected[s, sum(at <= s for at in emitted)] += (score - out.log_prob_B[0]).exp()
    torch.testing.assert_close(reached_rows(out.label_posterior_BSW)[0], expected)


def test_rows_reached_by_rnnt_are_the_posteriors_of_blank():
    torch.manual_seed(0)
    arcs = [torch.randn(2, 9, 5, dtype=torch.float64) for _ in range(2)]
    lens = torch.tensor([9, 6]), torch.tensor([4, 2])
    out = forward_backward(*arcs, *lens, "regular")
    reached = reached_rows(out.label_posterior_BSW)
    torch.testing.assert_close(reached[0], out.blank_posterior_BSW[0])
    torch.testing.assert_close(reached[1, :6], out.blank_posterior_BSW[1, :6])


@pytest.mark.parametrize("durations", [(0, 1, 2, 3, 4), (1, 2, 4)], ids=str)
def test_windows_hold_the_alignment_where_it_is_sure(durations):
    """Arcs of a lattice in which one alignment has nearly all of the probability; it jumps over frames."""
    frames, tokens, width = 24, 8, 3
    blank, label, duration = (torch.zeros(*shape, frames, tokens + 1) for shape in ((1,), (1,), (len(durations), 1)))
    s, nodes = 0, []
    for u in range(tokens + 1):
        nodes.append((s, u))
        d = durations[-1] if u % 2 and u < tokens else 1
        (blank if u == tokens else label)[0, s, u] += 30
        duration[durations.index(d), 0, s, u] += 30
        s += d
    for rest in range(s, frames):
        nodes.append((rest, tokens))
        blank[0, rest, tokens] += 30
        duration[durations.index(1), 0, rest, tokens] += 30
    lens = torch.tensor([frames]), torch.tensor([tokens])
    out = tdt_forward_backward(blank, label, duration, *lens, durations)
    first_BS = pruning_window(
        reached_rows(out.label_posterior_BSW), out.label_posterior_BSW, *lens, width, step=width - 1 if durations[0] == 0 else 1
    )
    assert all(first_BS[0, s] <= u < first_BS[0, s] + width for s, u in nodes)


@pytest.mark.parametrize("topology", ["regular", "modified", "constrained"])
def test_alignment_of_rnnt_is_the_best_path(model, topology):
    encoder_out, targets = make_batch([4, 5, 3, 2], [2, 3, 0, 4])
    found = align(model, encoder_out, targets, topology)
    blank, label, _ = arcs_written_out(model, encoder_out, targets)
    assert found.durations_BU is None and not found.log_prob_B.requires_grad
    for row, (frames, tokens) in enumerate(((4, 2), (5, 3), (3, 0))):
        score, path = max(scores(blank[row], label[row], frames, tokens, topology), key=lambda scored: scored[0])
        torch.testing.assert_close(found.log_prob_B[row], score.detach())
        assert found.frames_BU[row].tolist() == [s for kind, s, _ in path if kind == "label"] + [-1] * (4 - tokens)
    if topology != "regular":
        assert found.log_prob_B[3] == float("-inf") and found.frames_BU[3].tolist() == [-1] * 4


@pytest.mark.parametrize("durations", [[0, 1, 2, 4], [1, 2]], ids=str)
def test_alignment_of_tdt_is_the_best_path(durations):
    model = build(durations=durations)
    encoder_out, targets = make_batch([4, 5, 3, 1], [2, 3, 0, 1])
    found = align(model, encoder_out, targets)
    blank, label, duration = arcs_written_out(model, encoder_out, targets)
    for row, (frames, tokens) in enumerate(((4, 2), (5, 3), (3, 0))):
        score, path = max(tdt_scores(blank[row], label[row], duration[:, row], frames, tokens, durations), key=lambda scored: scored[0])
        torch.testing.assert_close(found.log_prob_B[row], score.detach())
        labels = [(s, durations[index]) for kind, s, _, index in path if kind == "label"] + [(-1, -1)] * (3 - tokens)
        assert list(zip(found.frames_BU[row].tolist(), found.durations_BU[row].tolist())) == labels
    if 0 not in durations:
        assert found.log_prob_B[3] == float("-inf") and found.durations_BU[3].tolist() == [-1] * 3


def test_the_delay_penalty_moves_the_best_alignment_forward(model):
    encoder_out, targets = make_batch([12], [4])
    frames = EncoderOut(0.1 * encoder_out.frames_BSD.detach(), encoder_out.lens_B)
    lens = frames.lens_B, targets.lens_B
    arcs = all_arcs(model, frames, targets)
    emitted = [
        forward_backward(arcs.blank_BSW, delay_penalised(arcs.label_BSW, lens[0], penalty), *lens, "modified").label_posterior_BSW
        for penalty in (0.0, 0.5)
    ]
    usual, early = ((posterior * torch.arange(12).view(1, -1, 1)).sum() for posterior in emitted)
    assert early < usual - 4
    loss = Rnnt(Rnnt.Config(delay_penalty=0.5, topology="modified"), model)(frames, targets, model, step=0).total_B
    blank, label, _ = arcs_written_out(model, frames, targets)
    label = label + 0.5 * (5.5 - torch.arange(12).view(1, -1, 1))
    torch.testing.assert_close(loss, -forward_backward(blank, label, *lens, "modified").log_prob_B)
