from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from asr.models.import_icefall import convert
from asr.models.transducer import Transducer

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


class Reference(NamedTuple):
    """A model imported from the published names, and what the published implementation computes with it."""

    model: Transducer
    io: dict[str, Any]


def load_reference(folder: Path, name: str) -> Reference:
    state = torch.load(folder / f"{name}.ckpt.pt", map_location="cpu", weights_only=True)["model"]
    imported = convert(state, json.loads((folder / f"{name}.json").read_text()))
    model = Transducer(imported.config, imported.feature_dim, imported.vocab_size).eval()
    model.load_state_dict(imported.state)
    return Reference(model, torch.load(folder / f"{name}.io.pt", map_location="cpu", weights_only=True))


@pytest.fixture(scope="module")
def offline() -> Reference:
    return load_reference(GOLDEN, "zipformer_offline")


@pytest.fixture(scope="module")
def causal() -> Reference:
    return load_reference(GOLDEN, "zipformer_causal")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
