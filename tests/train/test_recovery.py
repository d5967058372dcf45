"""What goes wrong in a step costs that step or utterance at most, and is told by id."""
from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
import torch
from torch import nn

from asr.config import validate
from asr.losses.ctc import CrCtc
from asr.train import TrainConfig, Trainer
from asr.train.progress import read_rows
from asr.types import Batch, LossOut, Targets
from tests.train import tiny


class Fault(nn.Module):
    """The real loss, after or around which something happens."""

    def __init__(self, model: Any, fault: Callable[[LossOut, Any, int], LossOut]) -> None:
        super().__init__()
        self.loss, self.fault = tiny.losses(model), fault

    def forward(self, encoder_out: Any, targets: Targets, model: Any, step: int) -> LossOut:
        return self.fault(self.loss(encoder_out, targets, model, step), model, step)


def build(exp_dir: Path, fault: Callable[[LossOut, Any, int], LossOut] | None = None, norm: str = "batch", **config: Any) -> Trainer:
    model = tiny.model(dropout=0.0, norm=norm)
    losses = Fault(model, fault or (lambda out, model, step: out))
    values = {"epochs": 1, "device": "cpu", "threads": 1, "log_interval": 1, "optimizer": {"type": "scaled_adam", "lr": 0.02}, **config}
    return Trainer(validate(TrainConfig, values, "test"), model, losses, exp_dir, seed=7)


def problems(exp_dir: Path) -> dict[str, str]:
    path = exp_dir / "problems.jsonl"
    return {row["id"]: row["problem"] for row in map(json.loads, path.read_text().splitlines())} if path.exists() else {}


def loader_with(change: Callable[[Any], Any]) -> Callable[[int, int], Any]:
    """The tiny corpus with batch 2 changed."""
    return lambda epoch, skip: [change(batch) if batch.ids[0] == "utterance-2-0" else batch for batch in tiny.Loader(epoch, skip)]


def without_row_1(batch: Any) -> Any:
    from asr.train.step import _select

    return _select(batch, [0, 2])


def not_a_number(batch: Any) -> Any:
    features = batch.features_BTF.clone()
    features[1, 3, 2] = float("nan")
    return replace(batch, features_BTF=features)


def too_many_tokens(batch: Any) -> Any:
    sequences = batch.targets.to_lists()
    lens = batch.feature_lens_B.clone()
    lens[1] = 9
    return replace(batch, targets=Targets.from_lists([sequences[0], [1, 2, 3, 4] * 30, sequences[2]]), feature_lens_B=lens)


def test_an_utterance_of_nan_costs_itself_only(tmp_path):
    trainer = build(tmp_path / "nan")
    trainer.run(loader_with(not_a_number))
    without = build(tmp_path / "without")
    without.run(loader_with(without_row_1))
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, without.model.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert list(problems(tmp_path / "nan")) == ["utterance-2-1"]
    assert "features are not finite" in problems(tmp_path / "nan")["utterance-2-1"]
    rows = [row for row in read_rows(tmp_path / "nan" / "train.jsonl") if row["kind"] == "train"]
    assert sum(row["masked_utterances"] for row in rows) == 1 and sum(row["skipped_steps"] for row in rows) == 0


def test_an_infinite_loss_is_masked_and_told_once(tmp_path):
    def infinite(out: LossOut, model: Any, step: int) -> LossOut:
        total_B = out.total_B.clone()
        total_B[0] = float("inf")
        return LossOut(total_B, out.parts)

    trainer = build(tmp_path, infinite, epochs=2)
    trainer.run(tiny.Loader)
    told = [json.loads(line)["id"] for line in (tmp_path / "problems.jsonl").read_text().splitlines()]
    assert sorted(told) == [f"utterance-{batch}-0" for batch in range(tiny.BATCHES)]
    assert all("no alignment" in problem for problem in problems(tmp_path).values())
    assert trainer.position.step == 2 * tiny.BATCHES


def test_problems_are_not_told_again_after_resuming(tmp_path):
    for epochs in (1, 2):
        build(tmp_path, epochs=epochs).run(loader_with(not_a_number))
    assert len((tmp_path / "problems.jsonl").read_text().splitlines()) == 1


class NanGradient(torch.autograd.Function):
    """The identity, whose gradient is not a number."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * float("nan")


def test_a_gradient_that_is_not_finite_skips_its_step(tmp_path, caplog):
    def fault(out: LossOut, model: Any, step: int) -> LossOut:
        return LossOut(NanGradient.apply(out.total_B), out.parts) if step == 3 else out

    trainer = build(tmp_path, fault)
    states = []
    after_step = trainer._after_step

    def remember(result: Any, waited: float) -> None:
        after_step(result, waited)
        states.append({name: value.clone() for name, value in trainer.model.state_dict().items()})

    trainer._after_step = remember  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        trainer.run(tiny.Loader)
    assert all(torch.equal(states[3][name], states[2][name]) for name in states[2])
    assert any(not torch.equal(states[4][name], states[3][name]) for name in states[2])
    assert len(problems(tmp_path)) == tiny.SIZE
    assert "step 4 skipped: the gradient is not finite" in caplog.text
    assert [row["skipped_steps"] for row in read_rows(tmp_path / "train.jsonl")] == [0, 0, 0, 1, 0, 0]


def test_a_streak_goes_back_to_the_last_checkpoint_with_half_the_step(tmp_path, caplog):
    trainer = build(tmp_path, epochs=4, max_bad_steps=3, checkpoints={"every_steps": 2})
    broken = []

    def loader(epoch: int, skip: int) -> Iterator[Batch]:
        for batch in tiny.Loader(epoch, skip):
            if trainer.position.step == 8 and not broken:  # the weights are lost, once
                broken.append(True)
                nn.init.constant_(trainer.model.joiner.output_linear.weight, float("nan"))
            yield batch

    with caplog.at_level(logging.WARNING):
        assert trainer.run(loader) == "finished"
    assert "back from step 11 to step 8" in caplog.text
    assert trainer.position.step == 4 * tiny.BATCHES and trainer.lr_factor == 0.5
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values() if value.is_floating_point())
    rollback = next(row for row in read_rows(tmp_path / "train.jsonl") if row["kind"] == "rollback")
    assert rollback["lr_factor"] == 0.5 and rollback["failed_at"] == 11


def test_a_run_that_cannot_be_saved_says_so(tmp_path):
    def fault(out: LossOut, model: Any, step: int) -> LossOut:
        return LossOut(out.total_B * float("nan"), out.parts) if step >= 4 else out

    trainer = build(tmp_path, fault, epochs=50, max_bad_steps=2)
    with pytest.raises(ValueError, match="diverges at step 6"):
        trainer.run(tiny.Loader)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_splits_the_batch_and_changes_nothing(tmp_path, caplog, where):
    class Hungry(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def fault(out: LossOut, model: Any, step: int) -> LossOut:
        if step == 2 and len(out.total_B) > 1:
            if where == "forward":
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
            return LossOut(Hungry.apply(out.total_B), out.parts)
        return out

    trainer, plain = build(tmp_path / "hungry", fault, norm="layer"), build(tmp_path / "plain", norm="layer")
    with caplog.at_level(logging.WARNING):
        trainer.run(tiny.Loader)
    plain.run(tiny.Loader)
    assert "cutting it in two" in caplog.text
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(value, plain.model.state_dict()[name], rtol=1e-4, atol=1e-5)


def twice(batch: Batch) -> Batch:
    """Two copies, with noise of their own."""
    noise = torch.randn(2 * len(batch), *batch.features_BTF.shape[1:], generator=torch.Generator().manual_seed(1))
    return Batch(
        batch.features_BTF.repeat(2, 1, 1) + 0.1 * noise, batch.feature_lens_B.repeat(2), 2 * batch.ids, 2 * batch.texts,
        2 * batch.durations, Targets.from_lists(2 * batch.targets.to_lists()), copies=2,
    )


@pytest.mark.parametrize("wrong", ["memory", "features"])
def test_copies_of_an_utterance_stay_together(tmp_path, wrong):
    """Halves of a batch, and what is left without a bad utterance, still pair each row with its copy; averages count each row once."""
    def run(name: str, change: Callable[[Any], Any], fails: bool) -> dict[str, torch.Tensor]:
        def fault(out: LossOut, model: Any, step: int) -> LossOut:
            if fails and len(out.total_B) > 4:
                raise RuntimeError("CUDA out of memory")
            return out

        model = tiny.model(dropout=0.0, norm="layer", ctc=True)
        losses = Fault(model, fault)
        losses.loss = CrCtc(CrCtc.Config(prior_scale=0.5, prior_decay=0.5, consistency=1.0), model)
        values = {"epochs": 1, "device": "cpu", "threads": 1, "optimizer": {"type": "adamw", "lr": 0.02, "eps": 1e-3}}
        Trainer(validate(TrainConfig, values, "test"), model, losses, tmp_path / name, seed=7).run(
            lambda epoch, skip: [change(twice(batch)) for batch in tiny.Loader(epoch, skip)]
        )
        return {**model.state_dict(), **losses.state_dict()}

    def spoilt(batch: Batch) -> Batch:
        features = batch.features_BTF.clone()
        features[3 + 1, 3] = float("nan")  # the second copy of the second
        return replace(batch, features_BTF=features)

    def without_it(batch: Batch) -> Batch:
        from asr.train.step import _select

        return _select(batch, [0, 2])

    if wrong == "memory":
        states = run("whole", lambda batch: batch, False), run("halves", lambda batch: batch, True)
    else:
        states = run("without", without_it, False), run("spoilt", spoilt, False)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)
    assert states[0]["loss.prior.mean_V"].std() > 0.01


def test_an_utterance_too_large_for_memory_is_left_out_by_id(tmp_path):
    def fault(out: LossOut, model: Any, step: int) -> LossOut:
        if step == 2:
            raise RuntimeError("CUDA out of memory")
        return out

    trainer = build(tmp_path, fault)
    assert trainer.run(tiny.Loader) == "finished"
    assert len(problems(tmp_path)) == tiny.SIZE
    assert all("memory" in problem for problem in problems(tmp_path).values())


def test_another_error_names_the_batch(tmp_path, caplog):
    def fault(out: LossOut, model: Any, step: int) -> LossOut:
        raise RuntimeError("something else")

    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError, match="something else"):
        build(tmp_path, fault).run(tiny.Loader)
    assert "step 0 failed on the batch of utterance-" in caplog.text


def test_a_loader_that_gives_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no batches"):
        build(tmp_path).run(lambda epoch, skip: [])
