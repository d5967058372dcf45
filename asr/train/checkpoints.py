"""Checkpoints: written whole, pruned by a policy, found again after anything, averaged for decoding.

``epoch-N.pt`` is written after N epochs, ``step-N.pt`` after N steps. Each holds all that training needs to go on exactly:
tensors in plain dictionaries, and everything else as one JSON string, because torch 1.13's ``weights_only`` reads no floats.
"""
from __future__ import annotations

import json
import logging
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, Iterator, Literal, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config
from asr.files import save_tensors
from asr.models.adapters import trained_state

log = logging.getLogger(__name__)

_NAME = re.compile(r"(epoch|step)-(\d+)\.pt")


class CheckpointConfig(Config):
    """When checkpoints are written besides one after every epoch, and how many are kept (``keep_epochs: 0`` keeps all)."""

    every_minutes: float = Field(default=10.0, gt=0)
    every_steps: int | None = Field(default=None, ge=1)
    keep_steps: int = Field(default=2, ge=1)
    keep_epochs: int = Field(default=20, ge=0)


class RunningSum:
    """Float64 sums over time of what training changes of a module: the average of any range of a run is the difference of two of them.

    With S(a) and n(a) the sum and the number of its terms at checkpoint a, the average over (a, b] is (S(b) - S(a)) / (n(b) - n(a)).
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.count = 0
        self.sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in _floating(trained_state(module))}

    def add(self) -> None:
        for name, value in _floating(trained_state(self._module)):
            self.sums[name].add_(value)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "sums": dict(self.sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]
        for name, value in state["sums"].items():
            self.sums[name].copy_(value)


class CheckpointStore:
    def __init__(self, directory: Path, config: CheckpointConfig) -> None:
        self.directory, self._config = directory, config

    def save(self, tensors: Mapping[str, Any], values: Mapping[str, Any], kind: Literal["epoch", "step"], number: int) -> Path:
        """tensors: nested dictionaries of tensors and integers. values: JSON-able. Reading gives both in one dictionary."""
        path = self.directory / f"{kind}-{number}.pt"
        save_tensors({**tensors, "values": json.dumps(values)}, path)
        self._prune("epoch", self._config.keep_epochs)
        self._prune("step", self._config.keep_steps)
        return path

    def newest(self) -> dict[str, Any] | None:
        """The whole checkpoint with the most steps, or None; damaged files are passed over with a warning."""
        return next(iter(_newest_first(self.directory)), None)

    def clear(self) -> None:
        for kind in ("epoch", "step"):
            for path in _numbered(self.directory, kind).values():
                path.unlink()

    def sweep(self) -> None:
        """Removes what a killed process had not finished writing."""
        for path in self.directory.glob(".*.pt.*.part"):
            path.unlink()

    def _prune(self, kind: str, keep: int) -> None:
        if keep:
            for path in list(_numbered(self.directory, kind).values())[:-keep]:
                path.unlink()


def average_state(exp_dir: Path, epochs: int | None = None, kind: Literal["running", "epochs"] = "running") -> dict[str, Tensor]:
    """The model's state dict averaged over the last ``epochs`` epochs of a run, for decoding.

    epochs: None takes the last third of the run; 0 the last weights as they are. The newest checkpoint ends the range, be it in
        the middle of an epoch.
    kind: "running" averages over every ``average_period``-th step of the range, from the running sums at its two ends;
        "epochs" averages the weights at the ends of the epochs of the range.

    What is not floating point (counters) is taken from the last checkpoint. Where the range has nothing to average (a run
    shorter than the period), the last weights are given. Raises ValueError where a checkpoint that is needed is absent.
    """
    directory = exp_dir / "checkpoints"
    last = next(iter(_newest_first(directory)), None)
    if last is None:
        raise ValueError(f"{directory}: no usable checkpoint here; run 'asr train' first")
    finished: int = last["position"]["epoch"]
    if epochs is None:
        epochs = max(1, round(finished / 3))
        kept = _numbered(directory, "epoch")
        if kept and finished - epochs > 0:
            epochs = min(epochs, finished - min(kept))
    if epochs < 0 or epochs > max(finished, 1):
        raise ValueError(f"{exp_dir}: cannot average over {epochs} epochs of a run of {finished}")
    if epochs == 0:
        return dict(last["model"])
    start = max(0, finished - epochs)
    if kind == "epochs":
        return _mean_of_epochs(directory, last, range(start + 1, finished + 1))
    count, sums = last["average"]["count"], last["average"]["sums"]
    if start > 0:
        first = _read_epoch(directory, start)["average"]
        count, sums = count - first["count"], {name: total - first["sums"][name] for name, total in sums.items()}
    if count == 0:
        return dict(last["model"])
    return {
        name: (sums[name] / count).to(value.dtype) if name in sums else value for name, value in last["model"].items()
    }


def _mean_of_epochs(directory: Path, last: Mapping[str, Any], epochs: range) -> dict[str, Tensor]:
    models = [_read_epoch(directory, epoch)["model"] for epoch in epochs] or [last["model"]]
    return {
        name: torch.stack([model[name].double() for model in models]).mean(dim=0).to(value.dtype)
        if value.is_floating_point() else value
        for name, value in last["model"].items()
    }


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Raises ValueError where the file is damaged or is not a checkpoint of this toolkit."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums
            if (broken := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"wrong checksum of {broken}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged checkpoint ({type(error).__name__}: {str(error)[:200]})") from None
    if not isinstance(state, dict) or "values" not in state:
        raise ValueError(f"{path}: not a checkpoint of this toolkit")
    values = json.loads(state.pop("values"))
    return {**state, **values}


def _read_epoch(directory: Path, epoch: int) -> dict[str, Any]:
    kept = _numbered(directory, "epoch")
    if epoch not in kept:
        raise ValueError(
            f"{directory}: epoch-{epoch}.pt is needed for this average, but only {', '.join(map(str, kept)) or 'none'} are kept; "
            "average over fewer epochs, or train with a larger train.checkpoints.keep_epochs"
        )
    return read_checkpoint(kept[epoch])


def _numbered(directory: Path, kind: str) -> dict[int, Path]:
    """number -> file, in ascending order."""
    found = {
        int(match[2]): path
        for path in (directory.iterdir() if directory.is_dir() else ())
        if (match := _NAME.fullmatch(path.name)) and match[1] == kind
    }
    return dict(sorted(found.items()))


def _newest_first(directory: Path) -> Iterator[dict[str, Any]]:
    """Whole checkpoints by descending step. An epoch's file does not tell its step, so it is read to compare."""
    epochs, steps = list(_numbered(directory, "epoch").items()), list(_numbered(directory, "step").items())
    epoch_state: dict[str, Any] | None = None
    while epochs or steps or epoch_state is not None:
        if epoch_state is None and epochs:
            epoch_state = _read_or_warn(epochs.pop()[1])
            continue
        if epoch_state is None or (steps and steps[-1][0] > epoch_state["position"]["step"]):
            state = _read_or_warn(steps.pop()[1])
        else:
            state, epoch_state = epoch_state, None
        if state is not None:
            yield state


def _read_or_warn(path: Path) -> dict[str, Any] | None:
    try:
        return read_checkpoint(path)
    except ValueError as error:
        log.warning("%s; falling back to the one before it", error)
        return None


def _floating(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in state.items() if value.is_floating_point())
