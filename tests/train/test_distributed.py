"""The global batch, not the number of processes, defines the training."""
from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.train.distributed import Ranks
from asr.train.progress import read_rows
from tests.train import tiny

FORK = multiprocessing.get_context("forkserver")
STEPS = 20


def train(exp_dir: Path, rank: int, size: int, port: int, config: dict[str, Any]) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    ranks = Ranks.from_environment()

    def loader(epoch: int, skip: int) -> tiny.Loader:
        return tiny.Loader(epoch, skip, ranks, batches=9)  # not a multiple of 4: each epoch ends with a step of one batch

    tiny.trainer(exp_dir, ranks=ranks, batches_per_step=4, **{"epochs": 100, "max_steps": STEPS, **config}).run(loader, tiny.validation)
    ranks.close()


def losses(exp_dir: Path, size: int, **config: Any) -> tuple[list[float], list[float]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [FORK.Process(target=train, args=(exp_dir, rank, size, port, config)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    rows = read_rows(exp_dir / "train.jsonl")
    return [row["loss"] for row in rows if row["kind"] == "train"], [row["loss"] for row in rows if row["kind"] == "validation"]


def test_one_by_four_two_by_two_and_four_by_one_give_the_same_losses(tmp_path):
    training, validation = losses(tmp_path / "1", 1)
    assert len(training) == STEPS and training[-1] < 0.8 * training[0]
    for size in (2, 4):
        same_training, same_validation = losses(tmp_path / str(size), size)
        assert same_training == pytest.approx(training, abs=1e-4)
        # Running statistics are averaged over processes, so validation in eval mode is close, not the same.
        assert same_validation == pytest.approx(validation, rel=0.1)


def test_batches_per_step_must_fit_the_processes(tmp_path):
    with pytest.raises(ValueError, match="multiple of the number of processes, 2"):
        tiny.trainer(tmp_path, batches_per_step=3, ranks=Ranks(rank=0, size=2))


def test_a_tuned_part_is_trained_alike(tmp_path):
    config = {"max_steps": 4, "init_from": "exp/base", "tune": {"type": "adapters", "rank": 2}}
    alone, _ = losses(tmp_path / "1", 1, **config)
    two, _ = losses(tmp_path / "2", 2, **config)
    assert len(alone) == 4 and two == pytest.approx(alone, abs=1e-4)
    one, other = tiny.weights(tmp_path / "1"), tiny.weights(tmp_path / "2")
    trained = [name for name in one if name.startswith("/model/") and ".adapter." in name]
    assert trained and all(torch.allclose(one[name], other[name], atol=1e-4) for name in trained)
