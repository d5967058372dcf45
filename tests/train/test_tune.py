"""Training a part of a model: the rest does not move by one bit, and checkpoints, resuming and averages hold that part."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from asr.models.adapters import load_trained, tune
from asr.train import Trainer
from asr.train.checkpoints import average_state
from tests.train import tiny

TUNES = [
    {"type": "adapters", "rank": 2},
    {"type": "lora", "rank": 2, "modules": [r"encoder\..*", "joiner"], "full": [r"predictor\.embedding"]},
]
CASES = [(tuned, optimizer) for tuned, optimizer in zip(TUNES, ({"type": "adamw", "lr": 0.01}, {"type": "scaled_adam", "lr": 0.02}))]


def trainer(exp_dir: Path, tuned: dict[str, Any], optimizer: dict[str, Any], **config: Any) -> Trainer:
    return tiny.trainer(exp_dir, init_from="exp/base", tune=tuned, optimizer=optimizer, **config)


@pytest.mark.parametrize(("tuned", "optimizer"), CASES, ids=("adapters", "lora"))
def test_what_is_frozen_does_not_move_and_is_not_kept(tmp_path: Path, tuned: dict[str, Any], optimizer: dict[str, Any]) -> None:
    base = tiny.model().state_dict()
    run = trainer(tmp_path, tuned, optimizer)
    run.run(tiny.Loader, tiny.validation)
    frozen = {name: p for name, p in run.model.named_parameters() if not p.requires_grad}
    assert len(frozen) > 10
    for name, parameter in frozen.items():
        assert torch.equal(parameter, base[name.replace("parametrizations.", "").replace(".original", "")]), name
    state = average_state(tmp_path)
    assert not state.keys() & frozen.keys()
    moved = [name for name in state if not torch.equal(average_state(tmp_path, 0)[name], state[name])]
    assert any(".up" in name for name in moved)
    again = tiny.model()
    tune(again, run.config.tune)
    load_trained(again, state)
    losses = [float(tiny.losses(of)(of.encode(b.features_BTF, b.feature_lens_B), b.targets, of, 0).total_B.detach().sum())
              for of in (again.eval(), tiny.model().eval()) for b in tiny.validation()[:1]]
    assert losses[0] < losses[1]


@pytest.mark.parametrize(("tuned", "optimizer"), CASES, ids=("adapters", "lora"))
def test_resumed_it_is_the_same_to_the_bit(tmp_path: Path, tuned: dict[str, Any], optimizer: dict[str, Any]) -> None:
    trainer(tmp_path / "whole", tuned, optimizer, max_steps=9).run(tiny.Loader, tiny.validation)
    for steps in (4, 9):
        trainer(tmp_path / "parts", tuned, optimizer, max_steps=steps).run(tiny.Loader, tiny.validation)
    tiny.assert_same(tiny.weights(tmp_path / "parts"), tiny.weights(tmp_path / "whole"))
