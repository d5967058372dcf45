"""The source tree this code runs from, for the record of what produced a result."""
from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

RESULTS = ("RESULTS.md", "ledger.jsonl")
"""What a recipe writes beside itself: one result must not make the next one's source look changed."""


@dataclass(frozen=True)
class Source:
    """commit: of the checkout; dirty: whether its tracked files differ from it, but for results. Both None outside of a checkout."""

    commit: str | None
    dirty: bool | None


def source() -> Source:
    root = Path(__file__).resolve().parents[1]
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!egs/*/{name}" for name in RESULTS))
        return Source(commit, bool(changes.strip()))
    except (OSError, subprocess.SubprocessError):
        return Source(None, None)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20).stdout
