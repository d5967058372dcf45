"""A small real model, a real loss and a small learnable corpus for the tests of this directory."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch
from torch import nn

from asr.config import validate
from asr.losses.rnnt import Rnnt
from asr.models.adapters import tune
from asr.models.transducer import Transducer
from asr.train import TrainConfig, Trainer
from asr.train.distributed import Ranks
from asr.types import Batch, Targets

FEATURES, VOCAB, BATCHES, SIZE = 8, 5, 6, 3


def model(dropout: float = 0.1, norm: str = "batch", ctc: bool = False) -> Transducer:
    torch.manual_seed(0)
    config = {
        "encoder": {
            "type": "conformer", "dim": 16, "layers": 1, "heads": 2, "feedforward": 16, "kernel": 3, "norm": norm, "dropout": dropout,
        },
        "predictor": {"type": "stateless", "dim": 8},
        "joiner": {"dim": 8},
        "ctc": {"dropout": 0.0} if ctc else None,
    }
    return Transducer(validate(Transducer.Config, config, "tiny"), FEATURES, VOCAB)


def losses(of: Transducer) -> nn.Module:
    return Rnnt(Rnnt.Config(), of)


def batch(seed: int, size: int = SIZE) -> Batch:
    """Utterances in which each token sounds for 16 frames as its own constant, in noise."""
    random = np.random.RandomState(seed)
    sounds = np.random.RandomState(0).randn(VOCAB, FEATURES)
    sequences = [list(random.randint(1, VOCAB, random.randint(1, 4))) for _ in range(size)]
    features = [
        torch.tensor(np.repeat(sounds[s], 16, axis=0) + 0.1 * random.randn(16 * len(s), FEATURES), dtype=torch.float32)
        for s in sequences
    ]
    return Batch(
        nn.utils.rnn.pad_sequence(features, batch_first=True), torch.tensor([len(f) for f in features]),
        tuple(f"utterance-{seed}-{row}" for row in range(size)), ("",) * size, tuple(len(f) / 100 for f in features),
        Targets.from_lists(sequences),
    )


class Loader:
    """``BATCHES`` batches an epoch, in an order that changes with it; this process's share."""

    def __init__(self, epoch: int, skip: int, ranks: Ranks | None = None, batches: int = BATCHES) -> None:
        self.num_batches = batches
        self._order = list(enumerate(np.random.RandomState(1000 + epoch).permutation(batches)))[skip:]
        self._ranks = ranks or Ranks()

    def __iter__(self) -> Iterator[Batch]:
        return (batch(int(seed)) for index, seed in self._order if index % self._ranks.size == self._ranks.rank)


def validation() -> list[Batch]:
    return [batch(100), batch(101)]


def trainer(
    exp_dir: Path, *, resume: Any = "auto", ranks: Ranks | None = None, identity: Any = None, chosen: Any = None, **config: Any,
) -> Trainer:
    """A trainer of the tiny model; ``config`` goes over a short TrainConfig."""
    values = {
        "epochs": 2, "device": "cpu", "threads": 1, "log_interval": 1, "average_period": 1,
        "optimizer": {"type": "scaled_adam", "lr": 0.02}, "schedule": {"type": "eden", "warmup_steps": 0}, **config,
    }
    tiny, parsed = model(), validate(TrainConfig, values, "test")
    if parsed.tune is not None:
        tune(tiny, parsed.tune)
    return Trainer(parsed, tiny, losses(tiny), exp_dir, seed=7, resume=resume, identity=identity, chosen=chosen, ranks=ranks)


def weights(exp_dir: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint of a run says of the model, its average and its optimizer, as flat named tensors."""
    from asr.train.checkpoints import CheckpointConfig, CheckpointStore

    state = CheckpointStore(exp_dir / "checkpoints", CheckpointConfig()).newest()
    assert state is not None
    flat: dict[str, torch.Tensor] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            flat[name] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}/{key}")
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                walk(item, f"{name}/{index}")
        elif name.split("/")[1] not in ("seconds", "identity"):
            flat[name] = torch.tensor(-1.0 if value is None else float(value))

    for key in state:
        walk(state[key], f"/{key}")
    return flat


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, different
