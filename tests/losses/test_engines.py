"""The compiled engines against PyTorch's operations and against every path written out, in value and gradient."""
from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asr.config import validate
from asr.losses import LOSSES, build_losses
from asr.losses.engines import choose_engine, load_engine
from asr.losses.lattice import TOPOLOGIES, forward_backward, tdt_forward_backward
from tests.losses.batches import make_batch
from tests.losses.brute_force import log_prob, tdt_log_prob

NAN = float("nan")
DURATIONS = [(0, 1), (0, 1, 2, 3, 4), (1, 2), (0, 2), (2, 3), (1,)]
LENS = [([4, 1, 3], [3, 2, 0]), ([2, 5], [4, 1]), ([1], [0]), ([4, 3, 2], [2, 3, 2])]


@pytest.fixture(params=["torch", "numba", "triton"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each engine; Triton's code runs in its interpreter, on the CPU."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param == "triton" and "TRITON_INTERPRET" not in os.environ:
        pytest.skip("TRITON_INTERPRET=1 must be set before Triton is imported; the last test does so")
    return request.param
