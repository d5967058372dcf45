from __future__ import annotations

import logging

import pytest
import torch

from asr.train.checkpoints import CheckpointConfig, CheckpointStore, RunningSum, average_state, read_checkpoint
from tests.train import tiny


def values(step: int) -> dict:
    return {"position": {"step": step, "epoch": 0, "batch": 0}}


def test_floats_and_tensors_come_back_exactly(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointConfig())
    numbers = {"third": 1 / 3, "norms": [0.1, float("nan")], **values(1)}
    store.save({"model": {"w": torch.randn(3), "n": torch.tensor(2)}, "average": {"count": 3}}, numbers, "step", 1)
    state = store.newest()
    assert state["third"] == 1 / 3 and state["norms"][0] == 0.1 and state["average"]["count"] == 3
    assert state["model"]["n"].dtype == torch.int64


def test_pruning_keeps_the_newest_of_each_kind(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointConfig(keep_steps=2, keep_epochs=3))
    for number in range(1, 12):
        store.save({}, values(number), "step", number)
        store.save({}, values(number), "epoch", number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-10.pt", "epoch-11.pt", "epoch-9.pt", "step-10.pt", "step-11.pt"]


def test_newest_is_by_step_over_both_kinds(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointConfig())
    store.save({}, values(10), "epoch", 1)
    assert store.newest()["position"]["step"] == 10
    store.save({}, values(12), "step", 12)
    assert store.newest()["position"]["step"] == 12
    store.save({}, values(20), "epoch", 2)
    assert store.newest()["position"]["step"] == 20


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "flipped"])
def test_a_damaged_newest_file_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    store = CheckpointStore(tmp_path, CheckpointConfig())
    store.save({"model": {"w": torch.zeros(100)}}, values(10), "epoch", 1)
    path = store.save({"model": {"w": torch.randn(1000)}}, values(12), "step", 12)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes({
        "truncated": content[:middle], "empty": b"", "garbage": b"not a checkpoint",
        "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1:],
    }[damage])
    with caplog.at_level(logging.WARNING):
        assert store.newest()["position"]["step"] == 10
    assert "step-12.pt" in caplog.text and "damaged" in caplog.text


def test_no_checkpoint_at_all(tmp_path):
    assert CheckpointStore(tmp_path / "absent", CheckpointConfig()).newest() is None
    with pytest.raises(ValueError, match="asr train"):
        average_state(tmp_path)


def test_another_file_is_not_a_checkpoint(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "step-1.pt")
    with pytest.raises(ValueError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "step-1.pt")


def test_running_sum_is_float64_and_leaves_counters_out():
    module = torch.nn.BatchNorm1d(2)
    average = RunningSum(module)
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            module.weight.fill_(value)
        average.add()
    assert average.sums["weight"].dtype == torch.float64
    assert (average.sums["weight"] / average.count).tolist() == [3.0, 3.0]
    assert "num_batches_tracked" not in average.sums


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 6 epochs of 6 steps, and its weights after every step."""
    exp_dir = tmp_path_factory.mktemp("run")
    trainer = tiny.trainer(exp_dir, epochs=6)
    history, after_step = [], trainer._after_step

    def remember(result, waited):
        after_step(result, waited)
        history.append({name: value.clone() for name, value in trainer.model.state_dict().items()})

    trainer._after_step = remember
    trainer.run(tiny.Loader)
    return exp_dir, history


@pytest.mark.parametrize(("epochs", "first_step"), [(1, 30), (2, 24), (6, 0), (None, 24)])
def test_running_average_is_the_mean_of_the_steps_of_the_range(run, epochs, first_step):
    exp_dir, history = run
    averaged = average_state(exp_dir, epochs)
    for name, value in averaged.items():
        expected = torch.stack([state[name].double() for state in history[first_step:]]).mean(dim=0)
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(value, history[-1][name])


def test_mean_of_epochs_and_last_weights(run):
    exp_dir, history = run
    ends = average_state(exp_dir, 2, "epochs")
    last = average_state(exp_dir, 0)
    for name, value in last.items():
        assert torch.equal(value, history[-1][name])
        if value.is_floating_point():
            expected = torch.stack([history[23 + 6][name].double(), history[35][name].double()]).mean(dim=0)
            torch.testing.assert_close(ends[name].double(), expected, rtol=1e-6, atol=1e-7)
    tiny.model().load_state_dict(ends)


def test_an_average_over_epochs_that_are_gone_says_which_there_are(run, tmp_path):
    exp_dir, _ = run
    with pytest.raises(ValueError, match="7 epochs of a run of 6"):
        average_state(exp_dir, 7)
    trainer = tiny.trainer(tmp_path, epochs=4, checkpoints={"keep_epochs": 2})
    trainer.run(tiny.Loader)
    with pytest.raises(ValueError, match="only 3, 4 are kept"):
        average_state(tmp_path, 3)
    average_state(tmp_path, 1)
    average_state(tmp_path)


def test_a_run_shorter_than_the_period_gives_its_last_weights(tmp_path):
    trainer = tiny.trainer(tmp_path, epochs=1, average_period=100)
    trainer.run(tiny.Loader)
    for name, value in average_state(tmp_path).items():
        assert torch.equal(value, trainer.model.state_dict()[name])
