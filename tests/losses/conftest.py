"""A small random model for the tests of losses."""
from __future__ import annotations

import pytest
import torch

from asr.config import validate
from asr.models.transducer import Transducer
from tests.losses.batches import DIM, VOCAB


@pytest.fixture(scope="session")
def model() -> Transducer:
    torch.manual_seed(0)
    config = validate(
        Transducer.Config,
        {
            "encoder": {"type": "conformer", "dim": DIM, "layers": 1, "heads": 2, "feedforward": 8, "kernel": 3},
            "predictor": {"type": "stateless", "dim": 12},
            "joiner": {"dim": 10},
            "ctc": {"dropout": 0.0},
        },
        "test",
    )
    return Transducer(config, feature_dim=20, vocab_size=VOCAB)
