"""Which program sums over alignments: PyTorch's own operations anywhere, code compiled by numba on a CPU, by Triton on a GPU.

An engine is a module with a function ``sum_paths(blank_BSW, label_BSW, duration_LBSW, first_BS, frame_lens_B, token_lens_B, moves)``
that returns the log-probabilities (B,) and the posteriors of blank, label and duration, None where durations are; lattice.py has what all
of these mean. All engines give the same numbers.
"""
from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any, Callable, Literal, NamedTuple

import torch

Engine = Literal["auto", "torch", "numba", "triton"]

COMPILED: dict[str, Engine] = {"cpu": "numba", "cuda": "triton"}
"""The engine that is the fastest on each kind of device, where it is installed."""


class Moves(NamedTuple):
    """By how many frames arcs advance: blank[i] and label[i] with duration i; a transducer without durations has one of each.

    A blank of 0 does not exist; only the first label's may be 0. label_ends: whether a label may be the last arc of a path.
    """

    blank: tuple[int, ...]
    label: tuple[int, ...]
    label_ends: bool


def choose_engine(device: str) -> Engine:
    """What ``auto`` stands for on ``device`` ("cpu", "cuda")."""
    best: Engine = COMPILED.get(device, "torch")
    return best if importlib.util.find_spec(best) else "torch"


def load_engine(engine: Engine, device: torch.device) -> Callable[..., Any]:
    """The engine's ``sum_paths``. Raises ValueError where it is not installed, or is not for this device."""
    chosen = choose_engine(device.type) if engine == "auto" else engine
    if importlib.util.find_spec(chosen) is None:
        raise ValueError(f"losses: engine {chosen} is not installed: python -m pip install {chosen}, or set the loss's engine to auto")
    if chosen != "torch" and COMPILED.get(device.type) != chosen and "TRITON_INTERPRET" not in os.environ:
        raise ValueError(f"losses: engine {chosen} cannot run on this device ({device.type}); set the loss's engine to auto")
    try:
        return importlib.import_module(f"asr.losses.{chosen}_engine").sum_paths
    except ImportError as error:
        raise ValueError(f"losses: engine {chosen} does not load ({error}); set the loss's engine to torch") from error
