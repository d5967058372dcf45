"""max_duration: auto."""
from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.config import validate
from asr.data import Extremes
from asr.train import TrainConfig
from asr.train.batch_size import CLOSE, Probe, find_max_duration, largest
from asr.train.distributed import Ranks
from tests.train import tiny

ROOT = Path(__file__).resolve().parents[2]
WORST = Extremes(seconds=3.0, frames=300, tokens=2, total=9000.0)


def config(**batches: Any) -> TrainConfig:
    return validate(TrainConfig, {"device": "cpu", "batches": {"max_duration": "auto", **batches}}, "test")


def probe(**batches: Any) -> Probe:
    model = tiny.model()
    return Probe(config(**batches), model.train(), tiny.losses(model), WORST, torch.device("cpu"))


@pytest.mark.parametrize("most", [1, 2, 7, 100, 5000])
@pytest.mark.parametrize("limit", [10.0, 11.0, 12.5, 33.0, 1000.0])
@pytest.mark.parametrize("flat", [0, 3, 40])
@pytest.mark.parametrize("ends", [math.inf, 25])
def test_the_largest_number_within_the_limit(most: int, limit: float, flat: int, ends: float) -> None:
    """Against trying all numbers; ``flat``: so many cost no more than one; from ``ends`` on it cannot be told."""
    asked = []

    def measure(count: int) -> float:
        asked.append(count)
        return math.inf if count >= ends else 10.0 + 0.5 * max(0, count - flat)

    def fits(count: int) -> bool:
        return measure(count) <= limit

    best = max((count for count in range(1, most + 1) if fits(count)), default=0)
    asked.clear()
    found = largest(measure, limit, most)
    assert found <= best <= max(CLOSE * found, found + 1 if found else 0)
    assert len(asked) < 25 and len(set(asked)) == len(asked) and max(asked) <= most
    if ends == math.inf and flat == 0:
        assert all(measure(count) <= limit for count in set(asked) - {1, 2}), "no measurement beyond what the first two foretell"


def test_what_is_found_fits_and_twice_as_much_does_not() -> None:
    """In a process of its own, as training is: what earlier tests gave back to the allocator would be used again, uncounted."""
    code = f"from {__name__} import find_and_measure; find_and_measure()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def find_and_measure() -> None:
    measure = probe()
    measure(1)
    limit = measure(1) + 0.2
    seconds = find_max_duration(config(memory_gb=limit), tiny.model(), tiny.losses(tiny.model()), WORST, Ranks())
    count = round(seconds / WORST.seconds)
    assert count > 1 and seconds == pytest.approx(count * WORST.seconds)
    assert measure(count) < limit + 0.05 and measure(2 * count) > limit, (count, limit, measure(count), measure(2 * count))


def test_limits_of_the_config_and_of_the_corpus_hold() -> None:
    model = tiny.model()
    arguments: Any = (model, tiny.losses(model), Extremes(0.5, 50, 2, 1.6), Ranks())
    assert find_max_duration(config(memory_gb=100), *arguments) == 2.0, "as much as there is"
    assert find_max_duration(config(memory_gb=100, max_utterances=3), *arguments) == 1.5
    assert find_max_duration(config(memory_gb=100, copies=2), *arguments) == 4.0, "all, twice"
    assert find_max_duration(config(memory_gb=100, copies=2, max_utterances=3), *arguments) == 1.0


def test_what_cannot_be_said_is_explained() -> None:
    model = tiny.model()
    arguments: Any = (model, tiny.losses(model), WORST, Ranks())
    with pytest.raises(ValueError, match=r"on a CPU, say how much memory training may take: train.batches.memory_gb"):
        find_max_duration(config(), *arguments)
    with pytest.raises(ValueError, match=r"one utterance of 3.0 s with 2 tokens needs more than 0.0 GB"):
        find_max_duration(config(memory_gb=0.001), *arguments)


def test_out_of_memory_is_a_measurement() -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    measure = probe()
    measure._losses.forward = fail  # type: ignore[method-assign]
    assert measure(1) == math.inf


@pytest.mark.gpu
def test_a_gpu_is_filled_to_its_share() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    model = tiny.model()
    gpu = validate(TrainConfig, {"device": "cuda", "batches": {"max_duration": "auto", "memory_gb": 0.3}}, "test")
    seconds = find_max_duration(gpu, model, tiny.losses(model), WORST, Ranks())
    again = Probe(gpu, model, tiny.losses(model).cuda(), WORST, torch.device("cuda", 0))
    assert 0.2 < again(round(seconds / WORST.seconds)) <= 0.31
