"""Small random models for the tests of losses."""
from __future__ import annotations

import pytest
import torch

from asr.config import validate
from asr.models.transducer import Transducer
from tests.losses.batches import DIM, VOCAB

DURATIONS = [0, 1, 2, 4]


def build(**joiner) -> Transducer:
    torch.manual_seed(0)
    config = validate(
        Transducer.Config,
        {
            "encoder": {"type": "conformer", "dim": DIM, "layers": 1, "heads": 2, "feedforward": 8, "kernel": 3},
            "predictor": {"type": "stateless", "dim": 12},
            "joiner": {"dim": 10, **joiner},
            "ctc": {"dropout": 0.0},
            "attention": {"dim": 12, "layers": 1, "heads": 2, "feedforward": 16, "dropout": 0.0},
        },
        "test",
    )
    return Transducer(config, feature_dim=20, vocab_size=VOCAB)


@pytest.fixture(scope="session")
def model() -> Transducer:
    return build()


@pytest.fixture(scope="session")
def tdt_model() -> Transducer:
    return build(durations=DURATIONS)
