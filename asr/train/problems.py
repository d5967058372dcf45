"""The list of utterances that training could not use, each told once, in ``exp/<name>/problems.jsonl``."""
from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Sequence

from asr.files import append_line

SHOWN = 5

log = logging.getLogger(__name__)


class Problems:
    """Appends ``{"id", "problem", "epoch", "step"}`` lines; what an earlier run of the same experiment told is not told again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: set[tuple[str, str]] = set()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:  # a line cut off by a kill
                    continue
                self._told.add((entry["id"], entry["problem"]))

    def report(self, problems: Sequence[tuple[str, str]], epoch: int = 0, step: int = 0) -> None:
        """problems: (utterance id, what is wrong with it)."""
        new = [item for item in problems if item not in self._told]
        if not new:
            return
        self._told.update(new)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for id, problem in new:
            append_line(self._path, json.dumps({"id": id, "problem": problem, "epoch": epoch, "step": step}, ensure_ascii=False))
        for id, problem in new[:SHOWN]:
            log.warning("utterance %s: %s", id, problem)
        if len(new) > SHOWN:
            log.warning("and %d more utterances: see %s", len(new) - SHOWN, self._path)
