"""A corpus that needs code of its own: a ``prepare.py`` beside the recipe."""
from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, Literal, Sequence

from asr.config import Config as BaseConfig
from asr.data.manifests import read_cuts
from asr.data.sources.base import SourceSplit, chosen_splits


class Script:
    class Config(BaseConfig):
        """file: Python with ``prepare(corpus_dir: Path, out: Path) -> dict[str, Path]``, the path of a manifest of cuts for each split
        (single-channel, one supervision each); it may write whatever it needs into ``out``. Relative to the working directory.
        """

        type: Literal["script"] = "script"
        file: str = "prepare.py"

    def __init__(self, config: "Script.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        path = Path(self.config.file)
        if not path.is_file() or path.suffix != ".py":
            raise ValueError(f"corpus.source.file: {path.absolute()}: no such Python file; it is looked for from the working directory")
        prepare: Any = runpy.run_path(str(path)).get("prepare")  # unlike an import, it leaves no __pycache__ in the recipe
        if not callable(prepare):
            raise ValueError(f"{path}: no function 'prepare(corpus_dir, out)'")
        work_dir.mkdir(parents=True, exist_ok=True)
        made: dict[str, Any] = prepare(corpus_dir, work_dir)
        return {name: SourceSplit(read_cuts(Path(made[name]))) for name in chosen_splits(made, splits, str(path))}
