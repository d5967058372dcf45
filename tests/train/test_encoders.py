"""Every kind of encoder and predictor learns, with activation checkpointing as without."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asr.config import validate
from asr.models.encoders import ENCODERS
from asr.models.predictors import PREDICTORS
from asr.models.transducer import Transducer
from asr.train import TrainConfig, Trainer
from asr.train.progress import read_rows
from asr.train.step import seed_everything
from tests.train import tiny

CONFORMER: dict[str, Any] = {
    "type": "conformer", "dim": 16, "layers": 2, "heads": 2, "feedforward": 16, "kernel": 3, "norm": "batch",
    "subsampling": {"channels": 4},
}
CAUSAL = {"causal": True, "chunk_sizes": [2, 4, -1], "left_frames": [4, -1]}
ZIPFORMER: dict[str, Any] = {
    "type": "zipformer", "layers": [1, 1], "dims": [16, 24], "unmasked_dims": [12, 16], "feed_forward": [24, 32], "heads": [2, 2],
    "kernels": [7, 7], "downsampling": [1, 2], "query_head_dim": 6, "value_head_dim": 4, "pos_dim": 12, "frontend_channels": [4, 8, 8],
}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conformer": (CONFORMER, {"type": "stateless", "dim": 8}),
    "conformer, causal": ({**CONFORMER, **CAUSAL}, {"type": "lstm", "dim": 8}),
    "transformer transducer": (
        {**CONFORMER, "kernel": 0, "macaron": False, "context": [4, 1]},
        {"type": "transformer", "dim": 8, "layers": 1, "heads": 2, "feedforward": 8, "context": 3},
    ),
    "zipformer": (ZIPFORMER, {"type": "stateless", "dim": 8}),
    "zipformer, causal": ({**ZIPFORMER, **CAUSAL}, {"type": "stateless", "dim": 8}),
}


def trained(exp_dir: Path, name: str, **config: Any) -> Trainer:
    seed_everything(0)
    encoder, predictor = MODELS[name]
    values = {"encoder": encoder, "predictor": predictor, "joiner": {"dim": 8}}
    model = Transducer(validate(Transducer.Config, values, "test"), tiny.FEATURES, tiny.VOCAB)
    values = {
        "epochs": 3, "device": "cpu", "threads": 1, "log_interval": 1, "average_period": 1,
        "optimizer": {"type": "adamw", "lr": 0.01}, "schedule": {"type": "constant"}, **config,
    }
    trainer = Trainer(validate(TrainConfig, values, "test"), model, tiny.losses(model), exp_dir, seed=7, resume="never")
    trainer.run(tiny.Loader, tiny.validation)
    return trainer


def test_the_table_is_complete() -> None:
    assert {encoder["type"] for encoder, _ in MODELS.values()} == ENCODERS.keys()
    assert {predictor["type"] for _, predictor in MODELS.values()} == PREDICTORS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_it_learns_and_checkpointing_changes_nothing(tmp_path: Path, name: str) -> None:
    trained(tmp_path / "plain", name)
    first, *_, last = read_rows(tmp_path / "plain" / "train.jsonl")
    assert last["kind"] == "validation" and last["loss"] < 0.8 * first["loss"]
    trained(tmp_path / "checkpointing", name, activation_checkpointing=True)
    tiny.assert_same(tiny.weights(tmp_path / "plain"), tiny.weights(tmp_path / "checkpointing"))
