"""Discrete input from end to end: any loss learns a few utterances of random units by heart, and any search reads them back."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from asr.config import validate
from asr.decode import SearchConfig, build_search
from asr.losses import LossConfig, build_losses
from asr.losses.combined import Losses
from asr.models.transducer import Transducer
from asr.train import TrainConfig, Trainer
from asr.train.step import _select
from asr.types import Batch, Targets, UnitSpace
from tests.train import tiny

SPACE, CODES, VOCAB = UnitSpace(codebooks=2, vocabulary=50), UnitSpace(codebooks=3, vocabulary=8), 6
TEXTS = [[1, 2, 3], [4, 4, 5, 1], [2], [5, 3, 1, 2]]
LENS, NEIGHBOURS = [22, 30, 15, 27], [9, 0, 4, 7]
ENCODER = {
    "type": "conformer", "dim": 32, "layers": 1, "heads": 2, "feedforward": 32, "kernel": 5, "dropout": 0.0,
    "subsampling": {"type": "frames", "factor": 2},
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {
    "rnnt, ctc and mvq, with context": (
        {"frontend": {"combine": "concatenate", "dim": 24}, "context": {"type": "pooled", "future": True}, "ctc": {"dropout": 0.0}},
        {"rnnt": {"type": "pruned_rnnt"}, "ctc": {"type": "ctc", "weight": 0.5}, "kd": {"type": "mvq", "weight": 0.3}},
        [{"type": "greedy"}, {"type": "modified_beam"}, {"type": "ctc_greedy"}],
    ),
    "tdt": (
        {"frontend": {"combine": "attention", "dim": 24}, "joiner": {"dim": 16, "durations": [0, 1, 2, 4]}}, {"tdt": {"type": "tdt"}},
        [{"type": "greedy"}, {"type": "modified_beam"}],
    ),
}


def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)

    def units(space: UnitSpace, lens: list[int]) -> torch.Tensor:
        units_BTQ = torch.randint(space.vocabulary, (len(lens), max(lens), space.codebooks), generator=generator)
        for row, length in enumerate(lens):
            units_BTQ[row, length:] = -1
        return units_BTQ

    targets = Targets.from_lists(TEXTS)
    return Batch(
        units(SPACE, LENS), torch.tensor(LENS), ("a", "b", "c", "d"), ("",) * 4, tuple(length / 50 for length in LENS),
        Targets(targets.tokens_BU, targets.lens_B, units(CODES, LENS)),
        before_BTQ=units(CODES, NEIGHBOURS), after_BTQ=units(CODES, NEIGHBOURS[::-1]),
    )


def model_and_losses(name: str) -> tuple[Transducer, Losses]:
    torch.manual_seed(0)
    values, losses, _ = CASES[name]
    config = {"encoder": ENCODER, "predictor": {"type": "stateless", "dim": 16}, "joiner": {"dim": 16}, **values}
    model = Transducer(validate(Transducer.Config, config, "test"), SPACE.codebooks, VOCAB, SPACE, CODES)
    return model, build_losses({key: TypeAdapter(LossConfig).validate_python(loss) for key, loss in losses.items()}, model)


@pytest.mark.parametrize("name", CASES)
def test_a_few_utterances_are_learnt_by_heart_and_read_back(name: str) -> None:
    data, (model, losses) = batch(), model_and_losses(name)
    assert data.targets is not None
    optimizer = torch.optim.Adam([*model.parameters(), *losses.parameters()], lr=0.02)
    for step in range(80):
        out = model.encode(data.features_BTF, data.feature_lens_B, data.before_BTQ, data.after_BTQ)
        optimizer.zero_grad()
        losses(out, data.targets, model, step).total_B.mean().backward()
        optimizer.step()
    with torch.no_grad():
        out = model.eval().encode(data.features_BTF, data.feature_lens_B, data.before_BTQ, data.after_BTQ)
    for search in CASES[name][2]:
        found = build_search(TypeAdapter(SearchConfig).validate_python(search), model, None).decode(out)
        assert [list(hypotheses[0].tokens) for hypotheses in found] == TEXTS, search


def trained(exp_dir: Path, steps: int) -> None:
    """Goes on with what is there."""
    model, losses = model_and_losses(next(iter(CASES)))
    values = {"epochs": 1, "max_steps": steps, "device": "cpu", "threads": 1, "average_period": 1, "optimizer": {"type": "adamw"}}
    trainer = Trainer(validate(TrainConfig, values, "test"), model, losses, exp_dir, seed=1)
    assert trainer.run(lambda epoch, skip: [batch()] * (50 - skip)) == "finished"


def test_resumed_is_uninterrupted(tmp_path: Path) -> None:
    trained(tmp_path / "resumed", 2)
    trained(tmp_path / "resumed", 4)
    trained(tmp_path / "whole", 4)
    tiny.assert_same(tiny.weights(tmp_path / "resumed"), tiny.weights(tmp_path / "whole"))


def test_a_part_of_a_batch_keeps_what_is_its_own() -> None:
    whole = batch()
    part = _select(whole, [2, 0])
    assert part.targets is not None and whole.targets is not None
    units = (part.before_BTQ, whole.before_BTQ), (part.after_BTQ, whole.after_BTQ), (part.targets.codes_BTQ, whole.targets.codes_BTQ)
    for ours, theirs in units:
        assert ours is not None and theirs is not None and torch.equal(ours, theirs[[2, 0]])
