"""Where a result comes from: machine and training (the source tree: asr/source.py)."""
from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Hardware:
    cpu: str
    cores: int
    gpu: str | None


def hardware() -> Hardware:
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return Hardware(_cpu_name(), os.cpu_count() or 1, gpu)


def training(exp_dir: Path) -> dict[str, Any] | None:
    """What the trainer noted at its end (steps, epochs, seconds, audio_hours, parameters, ...), or None where it noted nothing."""
    path = exp_dir / "train_summary.json"
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError, ValueError):
        raise ValueError(f"{path}: not a JSON object; remove it, or run the training stage again to write it anew") from None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
