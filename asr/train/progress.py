"""What people watch while training: a progress line, ``train.jsonl``, TensorBoard."""
from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Mapping

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from asr.files import append_line, atomic_write
from asr.train.step import StepResult

log = logging.getLogger(__name__)


@dataclass
class Interval:
    """Sums since the last log line."""

    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    steps: int = 0
    applied: int = 0
    clipped: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    norm: float = 0.0

    def add(self, result: StepResult, waited: float) -> None:
        self.steps += 1
        self.applied += result.applied
        self.clipped += result.kept < 1
        self.waited += waited
        self.norm = result.norm
        self.parts.update(result.parts)
        for name in ("loss", "frames", "utterances", "masked", "audio_seconds", "feature_frames", "padded_frames"):
            self.sums[name] += getattr(result, name)

    def row(self) -> dict[str, Any]:
        """The interval as numbers: losses per encoder frame; ``speed`` in seconds of audio per second, or frames where the data is text;
        the rest as fractions."""
        elapsed = max(time.monotonic() - self.started, 1e-9)
        frames = max(self.sums["frames"], 1)
        return {
            "loss": self.sums["loss"] / frames,
            "parts": {name: total / frames for name, total in sorted(self.parts.items())},
            "grad_norm": self.norm,
            "clipped": self.clipped / max(self.steps, 1),
            "skipped_steps": self.steps - self.applied,
            "masked_utterances": self.sums["masked"],
            "speed": (self.sums["audio_seconds"] or self.sums["frames"]) / elapsed,
            "padding": 1 - self.sums["feature_frames"] / max(self.sums["padded_frames"], 1),
            "data_wait": self.waited / elapsed,
        }


class Progress:
    """Shows and logs what happens. On a terminal a live line per epoch; elsewhere one log line per interval.

    ``train.jsonl`` and TensorBoard lines of what came after ``step`` and ``epochs_done`` (lost with an earlier run) are dropped.
    """

    def __init__(self, exp_dir: Path, step: int, epochs_done: int, epochs: int, device: torch.device) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only training needs it

        self._live = sys.stderr.isatty()
        self._epochs, self._device = epochs, device
        self._rows_path = exp_dir / "train.jsonl"
        drop_later_rows(self._rows_path, step, epochs_done)
        self._board = SummaryWriter(str(exp_dir / "tensorboard"), purge_step=step + 1)
        self._bar: tqdm[Any] | None = None
        self._details = ""
        self._redirection = ExitStack()
        if self._live:
            self._redirection.enter_context(logging_redirect_tqdm())
        self._interval = self._whole_epoch = Interval()
        self._title = ""

    def start_epoch(self, epoch: int, batches: int | None, done: int) -> None:
        self._interval, self._whole_epoch = Interval(), Interval()
        self._title = f"epoch {epoch + 1}/{self._epochs}"
        if self._live:
            self._bar = tqdm(total=batches, initial=done, desc=self._title, unit="batch", leave=False,
                             dynamic_ncols=True)

    def step(self, result: StepResult, waited: float) -> None:
        self._interval.add(result, waited)
        self._whole_epoch.add(result, waited)
        if self._bar is not None:
            if result.frames:
                self._bar.set_postfix_str(f"loss {result.loss / result.frames:.4f} | {self._details}", refresh=False)
            self._bar.update(result.batches)

    def interval(self, step: int, epoch: int, lr: float, seconds: float, eta: float | None) -> None:
        row = {"kind": "train", "step": step, "epoch": epoch + 1, **self._interval.row(), "lr": lr,
               "memory_gb": memory_gb(self._device), "seconds": round(seconds, 3)}
        speed_unit = "x real time" if self._interval.sums["audio_seconds"] else "tokens/s"
        self._interval = Interval()
        self._write(row)
        self._details = (f"lr {lr:.2e} | {row['speed']:.0f} {speed_unit} | padding {row['padding']:.0%} | "
                         f"data wait {row['data_wait']:.0%} | {row['memory_gb']:.1f} GB | ETA {_clock(eta)}")
        if not self._live:
            log.info("epoch %d/%d step %d | %s | %s", epoch + 1, self._epochs, step, _losses(row), self._details)

    def validation(self, row: Mapping[str, Any]) -> None:
        self._write({"kind": "validation", **row})
        self.end_epoch()
        log.info("epoch %d/%d step %d | validation %s", row["epoch"], self._epochs, row["step"], _losses(row))

    def event(self, kind: str, **values: Any) -> None:
        self._write({"kind": kind, **values})

    def end_epoch(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._whole_epoch.steps:
            row = self._whole_epoch.row()
            log.info("%s | %d utterances in %d steps | padding %.1f%% | data wait %.1f%%", self._title,
                     self._whole_epoch.sums["utterances"], self._whole_epoch.steps, 100 * row["padding"], 100 * row["data_wait"])
        self._whole_epoch = Interval()

    def close(self) -> None:
        self.end_epoch()
        self._board.close()
        self._redirection.close()

    def _write(self, row: Mapping[str, Any]) -> None:
        append_line(self._rows_path, json.dumps(row))
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        for name, value in {**numbers, **row.get("parts", {})}.items():
            self._board.add_scalar(f"{row['kind']}/{name}", value, row["step"])


def drop_later_rows(path: Path, step: int, epochs_done: int) -> None:
    """Keeps the whole lines of ``path`` up to this position: what came later was lost with the run that wrote it."""
    rows = read_rows(path)
    kept = [row for row in rows if row["step"] <= step and (row["kind"] != "validation" or row["epoch"] <= epochs_done)]
    if path.exists():
        with atomic_write(path) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``train.jsonl``; one cut off by a kill is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def memory_gb(device: torch.device) -> float:
    """Peak memory of the process on the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _losses(row: Mapping[str, Any]) -> str:
    parts = " ".join(f"{name} {value:.4f}" for name, value in row["parts"].items())
    return f"loss {row['loss']:.4f}" + (f" ({parts})" if parts else "")


def _clock(seconds: float | None) -> str:
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
