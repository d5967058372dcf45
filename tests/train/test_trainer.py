from __future__ import annotations

import json
import logging

import pytest
import torch

from asr.config import validate
from asr.losses import build_losses
from asr.losses.combined import LOSSES
from asr.train import TrainConfig, Trainer
from asr.train.progress import read_rows
from tests.train import tiny


def test_a_run_learns_and_leaves_what_was_promised(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert tiny.trainer(tmp_path, epochs=5).run(tiny.Loader, tiny.validation) == "finished"
    rows = read_rows(tmp_path / "train.jsonl")
    training, validation = ([row for row in rows if row["kind"] == kind] for kind in ("train", "validation"))
    assert [row["step"] for row in training] == list(range(1, 5 * tiny.BATCHES + 1))
    assert [row["epoch"] for row in validation] == [1, 2, 3, 4, 5]
    assert validation[-1]["loss"] < 0.8 * validation[0]["loss"]
    assert {"loss", "parts", "lr", "grad_norm", "speed", "padding", "data_wait", "memory_gb", "seconds"} <= training[0].keys()
    summary = json.loads((tmp_path / "train_summary.json").read_text())
    audio = 5 * sum(sum(tiny.batch(seed).durations) for seed in range(tiny.BATCHES))
    assert summary["steps"] == 30 and summary["epochs"] == 5 and summary["seed"] == 7
    assert summary["audio_hours"] == pytest.approx(audio / 3600, abs=1e-4)
    assert summary["parameters"] == sum(p.numel() for p in tiny.model().parameters())
    assert list((tmp_path / "tensorboard").iterdir())
    assert "epoch 5/5 step 30 | validation loss" in caplog.text and "ETA" in caplog.text and "\r" not in caplog.text


def test_the_logged_loss_is_the_sum_over_the_frames(tmp_path):
    model = tiny.model(dropout=0.0)
    values = {"epochs": 1, "device": "cpu", "threads": 1, "log_interval": 1, "batches_per_step": tiny.BATCHES}
    config = validate(TrainConfig, {**values, "optimizer": {"type": "adamw", "lr": 1e-9}}, "test")
    Trainer(config, model, tiny.losses(model), tmp_path, seed=7).run(tiny.Loader)
    total, frames = 0.0, 0
    for seed in range(tiny.BATCHES):
        batch = tiny.batch(seed)
        with torch.no_grad():
            out = model.encode(batch.features_BTF, batch.feature_lens_B)
            total += float(tiny.losses(model)(out, batch.targets, model, 0).total_B.sum())
        frames += int(out.lens_B.sum())
    row = read_rows(tmp_path / "train.jsonl")[0]
    assert row["loss"] == pytest.approx(total / frames, rel=1e-4)


def test_accumulation_gives_the_gradient_of_one_large_batch(tmp_path):
    """With layer norm and no dropout, two micro-batches of three are one of six."""
    def run(name: str, loader: object, per_step: int) -> dict[str, torch.Tensor]:
        model = tiny.model(dropout=0.0, norm="layer")
        values = {"epochs": 1, "device": "cpu", "threads": 1, "batches_per_step": per_step, "optimizer": {"type": "adamw", "eps": 1e-3}}
        Trainer(validate(TrainConfig, values, "test"), model, tiny.losses(model), tmp_path / name, seed=7).run(loader)  # type: ignore[arg-type]
        return model.state_dict()

    def joined(epoch: int, skip: int) -> list:
        first, second = tiny.batch(1), tiny.batch(2)
        frames = max(first.features_BTF.shape[1], second.features_BTF.shape[1])
        tokens = tiny.Targets.from_lists(first.targets.to_lists() + second.targets.to_lists())
        features = [torch.nn.functional.pad(b.features_BTF, (0, 0, 0, frames - b.features_BTF.shape[1])) for b in (first, second)]
        return [tiny.Batch(torch.cat(features), torch.cat([first.feature_lens_B, second.feature_lens_B]), first.ids + second.ids,
                           first.texts + second.texts, first.durations + second.durations, tokens)][skip:]

    apart = run("apart", lambda epoch, skip: [tiny.batch(1), tiny.batch(2)][skip:], 2)
    together = run("together", joined, 1)
    for name, value in apart.items():
        torch.testing.assert_close(value, together[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("budget", "steps", "epochs"), [({"max_steps": 8}, 8, 1), ({"max_steps": 12}, 12, 2), ({"epochs": 1}, 6, 1)])
def test_budgets(tmp_path, budget, steps, epochs):
    config = {"epochs": 100, **budget}
    assert tiny.trainer(tmp_path, **config).run(tiny.Loader, tiny.validation) == "finished"
    summary = json.loads((tmp_path / "train_summary.json").read_text())
    assert (summary["steps"], summary["epochs"]) == (steps, epochs)
    assert tiny.weights(tmp_path)["/position/step"] == steps
    assert read_rows(tmp_path / "train.jsonl")[-1]["kind"] == "validation"
    assert tiny.trainer(tmp_path, **config).run(tiny.Loader, tiny.validation) == "up to date"


def test_a_budget_of_minutes_counts_earlier_runs(tmp_path):
    config = {"epochs": 10_000, "max_minutes": 0.02}
    assert tiny.trainer(tmp_path, **config).run(tiny.Loader) == "finished"
    seconds = json.loads((tmp_path / "train_summary.json").read_text())["seconds"]
    assert seconds >= 1.2
    again = tiny.trainer(tmp_path, **config)
    assert again.run(tiny.Loader) == "up to date" and again.position.step > 0


@pytest.mark.parametrize("optimizer", ["scaled_adam", "adamw"])
@pytest.mark.parametrize("schedule", ["eden", "noam", "constant"])
def test_every_optimizer_with_every_schedule(tmp_path, optimizer, schedule):
    trainer = tiny.trainer(tmp_path, epochs=1, optimizer={"type": optimizer}, schedule={"type": schedule})
    assert trainer.run(tiny.Loader) == "finished"
    rows = read_rows(tmp_path / "train.jsonl")
    assert rows[-1]["lr"] == pytest.approx(trainer.config.optimizer.lr * trainer.schedule.factor(tiny.BATCHES - 1, 0, 0.0))


def test_several_losses_and_their_parts_are_logged(tmp_path):
    model = tiny.model()
    losses = build_losses({"full": LOSSES["rnnt"].Config(), "pruned": LOSSES["pruned_rnnt"].Config(weight=0.5)}, model)
    config = validate(TrainConfig, {"epochs": 1, "device": "cpu", "threads": 1, "log_interval": 1}, "test")
    Trainer(config, model, losses, tmp_path, seed=7).run(tiny.Loader)
    row = read_rows(tmp_path / "train.jsonl")[0]
    assert row["loss"] == pytest.approx(row["parts"]["full"] + 0.5 * row["parts"]["pruned"], rel=1e-5)


def test_bf16_trains(tmp_path):
    if torch.__version__ < "2":
        with pytest.raises(ValueError, match="torch 2"):
            tiny.trainer(tmp_path, amp="bf16")
        return
    assert tiny.trainer(tmp_path, epochs=3, amp="bf16").run(tiny.Loader, tiny.validation) == "finished"
    rows = [row for row in read_rows(tmp_path / "train.jsonl") if row["kind"] == "train"]
    assert rows[-1]["loss"] < rows[0]["loss"] and sum(row["skipped_steps"] for row in rows) == 0


def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="train.device"):
        tiny.trainer(tmp_path, device="toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            tiny.trainer(tmp_path, device="cuda")
