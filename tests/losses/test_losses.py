"""Contracts that every loss keeps: independence of the batch, padding, impossible utterances, dtypes; and their weighted sum."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from asr import fsa
from asr.config import Config, validate
from asr.experiment import SearchedCandidates
from asr.losses import LossConfig, arcs, build_losses
from asr.models.transducer import Transducer
from asr.types import EncoderOut, Targets
from tests.losses.batches import make_batch


class Experiment(Config):
    losses: dict[str, LossConfig]


ALL = [
    {"type": "rnnt"},
    {"type": "rnnt", "topology": "modified"},
    {"type": "rnnt", "topology": "constrained", "delay_penalty": 0.01},
    {"type": "rnnt", "alignments": "best"},
    {"type": "pruned_rnnt", "range": 3},
    {"type": "pruned_rnnt", "range": 3, "topology": "modified"},
    {"type": "pruned_rnnt", "range": 3, "topology": "constrained", "delay_penalty": 0.01},
    {"type": "tdt"},
    {"type": "tdt", "alignments": "best"},
    {"type": "pruned_tdt", "range": 3},
    {"type": "mwer", "unit": "tokens"},
    {"type": "mwer", "unit": "tokens", "likelihood": {"type": "pruned_rnnt", "range": 3}},
    {"type": "ctc"},
    {"type": "ctc", "prior_scale": 0.3},
    {"type": "ctc", "repeat_penalty": 0.5, "max_repeats": 1},
    {"type": "cr_ctc"},
    {"type": "attention"},
]
if fsa.available():
    ALL.append({"type": "pruned_rnnt", "range": 3, "engine": "k2"})
each_loss = pytest.mark.parametrize("values", ALL, ids=str)


def is_tdt(values):
    return values.get("type", "").endswith("tdt")


@pytest.fixture
def model(request, model, tdt_model):
    """With durations where the test's loss needs them."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return tdt_model if is_tdt(parameters.get("values", {})) else model


def build(model, **losses):
    torch.manual_seed(1)
    return build_losses(validate(Experiment, {"losses": losses}, "test").losses, model, SearchedCandidates(model, None))


def gradients(total_B, encoder_out, modules):
    """Of the finite part of the loss, as the trainer takes them."""
    torch.where(total_B.isfinite(), total_B, torch.zeros_like(total_B)).sum().backward()
    found = [encoder_out.frames_BSD.grad] + [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]
    for module in modules:
        module.zero_grad()
    return found


@each_loss
def test_an_utterance_in_a_batch_has_the_loss_it_has_alone(model, values):
    losses = build(model, loss=values)
    frame_lens, token_lens = [14, 9, 5, 7], [6, 3, 4, 0]
    encoder_out, targets = make_batch(frame_lens, token_lens, padding=float("nan"))
    together = losses(encoder_out, targets, model, step=100).total_B
    assert together.isfinite().all() and together.dtype == torch.float32
    for row, (frames, tokens) in enumerate(zip(frame_lens, token_lens)):
        alone = losses(
            EncoderOut(encoder_out.frames_BSD[row : row + 1, :frames], encoder_out.lens_B[row : row + 1]),
            Targets(targets.tokens_BU[row : row + 1, :tokens], targets.lens_B[row : row + 1]), model, step=100,
        )
        torch.testing.assert_close(together[row], alone.total_B[0], rtol=1e-5, atol=1e-5)


@each_loss
def test_padding_reaches_neither_value_nor_gradient(model, values):
    losses = build(model, loss=values)

    def run(padding):
        encoder_out, targets = make_batch([10, 6], [3, 4], padding)
        total_B = losses(encoder_out, targets, model, step=0).total_B
        return [total_B.detach(), *gradients(total_B, encoder_out, [model, losses])]

    for clean, dirty in zip(run(0.0), run(float("nan"))):
        torch.testing.assert_close(clean, dirty)


@pytest.mark.parametrize("values", [v for v in ALL if "topology" in v or v["type"].endswith("ctc")], ids=str)
def test_too_few_frames_are_infinite_and_leave_the_others_alone(model, values):
    losses = build(model, loss=values)
    encoder_out, targets = make_batch([12, 3, 8], [4, 5, 2])
    total_B = losses(encoder_out, targets, model, step=0).total_B
    assert total_B[1] == float("inf") and total_B[[0, 2]].isfinite().all()
    with_it = gradients(total_B, encoder_out, [model, losses])
    assert all(gradient.isfinite().all() for gradient in with_it)
    assert not with_it[0][1].any() and with_it[0][0].any()


@pytest.mark.parametrize("values", [{"type": "pruned_rnnt", "range": 3}, {"type": "pruned_tdt", "range": 3}], ids=str)
def test_windows_too_narrow_for_the_transcript_are_infinite(model, values):
    losses = build(model, loss=values)
    encoder_out, targets = make_batch([9, 2], [4, 6])
    total_B = losses(encoder_out, targets, model, step=0).total_B
    assert total_B[0].isfinite() and total_B[1] == float("inf")
    assert all(gradient.isfinite().all() for gradient in gradients(total_B, encoder_out, [model, losses]))


def test_an_infinite_ctc_counts_the_blanks_between_equal_tokens(model):
    losses = build(model, loss={"type": "ctc"})
    encoder_out, _ = make_batch([4, 4, 4], [0, 0, 0])
    targets = Targets.from_lists([[3, 3, 2], [3, 3, 3], [3, 2, 1, 5]])
    assert losses(encoder_out, targets, model, step=0).total_B.isfinite().tolist() == [True, False, True]


@each_loss
@pytest.mark.parametrize("frame_lens, token_lens", [([1], [1]), ([1, 1], [0, 0]), ([3], [0])], ids=str)
def test_the_smallest_utterances(model, values, frame_lens, token_lens):
    losses = build(model, loss=values)
    encoder_out, targets = make_batch(frame_lens, token_lens)
    total_B = losses(encoder_out, targets, model, step=0).total_B
    signed = values["type"] == "mwer" or "prior_scale" in values
    assert total_B.isfinite().all() and (signed or (total_B > 0).all())
    assert all(gradient.isfinite().all() for gradient in gradients(total_B, encoder_out, [model, losses]))


@pytest.mark.parametrize("values", [v for v in ALL if not v["type"].endswith("ctc") and v.get("engine") != "k2"], ids=str)
def test_gradcheck_through_the_whole_loss(values):
    torch.manual_seed(0)
    config = {"encoder": {"type": "conformer", "dim": 16, "layers": 1, "heads": 2}, "predictor": {"type": "stateless", "dim": 4},
              "joiner": {"dim": 3, "durations": [0, 1, 2] if is_tdt(values) else []},
              "attention": {"dim": 8, "layers": 1, "heads": 2, "feedforward": 4, "dropout": 0.0}}
    model = Transducer(validate(Transducer.Config, config, "test"), feature_dim=20, vocab_size=4).double()
    loss = build(model, loss=values).double()
    encoder_out, targets = make_batch([4, 3], [3, 2])
    targets = Targets(targets.tokens_BU.clamp(max=3), targets.lens_B)
    frames = (0.3 * encoder_out.frames_BSD.detach()).double().requires_grad_()

    def total(frames, *_):
        return loss(EncoderOut(frames, encoder_out.lens_B), targets, model, step=0).total_B

    parameters = [p for module in (model.joiner, model.predictor, loss) for p in module.parameters()]
    assert torch.autograd.gradcheck(total, (frames, *parameters), fast_mode=True)


@pytest.mark.parametrize("values", [v for v in ALL if v["type"] in ("rnnt", "tdt")], ids=str)
def test_half_precision_logits_are_summed_in_float32(model, values):
    losses = build(model, loss=values)
    encoder_out, targets = make_batch([14, 9], [6, 3])
    exact = losses(encoder_out, targets, model, step=0).total_B
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = losses(encoder_out, targets, model, step=0).total_B
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.03, atol=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(rough, encoder_out, [model]))


def test_losses_are_a_weighted_sum_with_parts(model):
    losses = build(model, main={"type": "pruned_rnnt", "weight": 0.5}, ctc={"type": "ctc", "weight": 0.2})
    encoder_out, targets = make_batch([14, 9], [6, 3])
    out = losses(encoder_out, targets, model, step=3)
    assert set(out.parts) == {"main", "main_simple", "main_pruned", "ctc"}
    torch.testing.assert_close(out.total_B.detach(), 0.5 * out.parts["main"] + 0.2 * out.parts["ctc"])
    assert not any(part.requires_grad for part in out.parts.values())
    assert {name for name, _ in losses.named_parameters()} == {
        f"main.simple_{part}_proj.{kind}" for part in ("am", "lm") for kind in ("weight", "bias")
    }


def test_mistakes_in_the_config_are_explained(model):
    with pytest.raises(ValueError, match="name at least one"):
        build(model)
    with pytest.raises(ValueError, match="did you mean 'warmup_steps'"):
        build(model, loss={"type": "pruned_rnnt", "warmup_step": 3})
    headless = Transducer(Transducer.Config.model_validate({**HEADLESS}), feature_dim=20, vocab_size=5)
    with pytest.raises(ValueError, match="needs a CTC head"):
        build(headless, loss={"type": "ctc"})
    with pytest.raises(ValueError, match="needs an attention decoder"):
        build(headless, loss={"type": "attention"})
    with pytest.raises(ValueError, match="rnnt is for models without durations"):
        build(net_with([0, 1]), loss={"type": "mwer"})


@pytest.mark.parametrize("values", [{"type": "rnnt"}, {"type": "pruned_rnnt"}, {"type": "tdt"}, {"type": "pruned_tdt"}], ids=str)
def test_a_loss_for_another_kind_of_model_names_the_key_to_set(values):
    net = net_with([] if is_tdt(values) else [0, 1])
    with pytest.raises(ValueError, match=f"{values['type']} is for models with.* model.joiner.durations"):
        build(net, loss=values)


def test_pruned_tdt_wants_a_duration_of_one():
    net = net_with([0, 2])
    build(net, loss={"type": "tdt"})
    with pytest.raises(ValueError, match="add 1 to model.joiner.durations"):
        build(net, loss={"type": "pruned_tdt"})


HEADLESS = {"encoder": {"type": "conformer", "dim": 8, "layers": 1, "heads": 2, "kernel": 3}, "predictor": {"type": "lstm", "dim": 4}}


def net_with(durations):
    return Transducer(Transducer.Config.model_validate({**HEADLESS, "joiner": {"durations": durations}}), feature_dim=20, vocab_size=5)


@pytest.mark.parametrize("durations", [[], [0, 1, 2, 3, 4], [1, 2]], ids=str)
def test_training_lowers_every_loss(durations):
    """A few steps of gradient descent on one batch: the signs are right, through all parameters."""
    torch.manual_seed(0)
    config = {**HEADLESS, "joiner": {"durations": durations}, "ctc": {}}
    net = Transducer(Transducer.Config.model_validate(config), feature_dim=20, vocab_size=9)
    types = ["tdt", "pruned_tdt"] if durations else ["rnnt", "pruned_rnnt", "ctc"]
    losses = build(net, **{name: {"type": name} for name in types})
    features, lens_B = torch.randn(3, 60, 20), torch.tensor([60, 50, 40])
    targets = Targets.from_lists([[1, 2, 3], [4], [5, 5]])
    optimizer = torch.optim.Adam([*net.parameters(), *losses.parameters()], lr=1e-2)
    seen = []
    for step in range(25):
        out = losses(net.encode(features, lens_B), targets, net, step=step)
        optimizer.zero_grad()
        out.total_B.mean().backward()
        optimizer.step()
        seen.append(out.parts)
    for name in seen[0]:
        if not name.startswith("pruned") or name.endswith("simple"):  # the sum's own weights change during the warm-up
            assert seen[-1][name].mean() < 0.7 * seen[0][name].mean(), name
    assert isinstance(losses, nn.Module)


@pytest.mark.parametrize("values", [{"type": "tdt"}, {"type": "rnnt"}], ids=str)
def test_logits_in_pieces_change_nothing(model, values, monkeypatch):
    runs = []
    for at_once in (1 << 24, 100, 1):
        monkeypatch.setitem(arcs.LOGITS_AT_ONCE, "cpu", at_once)
        encoder_out, targets = make_batch([14, 9], [6, 3])
        total_B = build(model, loss=values)(encoder_out, targets, model, step=0).total_B
        runs.append([total_B.detach(), *gradients(total_B, encoder_out, [model])])
    for run in runs[1:]:
        for one, other in zip(runs[0], run):
            torch.testing.assert_close(one, other)
