"""The source tree this code runs from, for the record of what produced a result."""
from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """commit: of the checkout; dirty: whether its tracked files differ from it. Both None outside of a checkout."""

    commit: str | None
    dirty: bool | None


def source() -> Source:
    root = Path(__file__).resolve().parents[1]
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        return Source(commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no").strip()))
    except (OSError, subprocess.SubprocessError):
        return Source(None, None)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20).stdout
