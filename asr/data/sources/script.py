"""A corpus that needs code of its own: a ``prepare.py`` beside the recipe."""
from __future__ import annotations

import importlib.util
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

    def read(self, corpus_dir: Path, splits: Sequence[str], work_dir: Path) -> dict[str, SourceSplit]:
        path = Path(self.config.file)
        spec = importlib.util.spec_from_file_location(f"corpus_{path.stem}", path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise ValueError(f"corpus.source.file: {path.absolute()}: no such Python file; it is looked for from the working directory")
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not callable(getattr(module, "prepare", None)):
            raise ValueError(f"{path}: no function 'prepare(corpus_dir, out)'")
        work_dir.mkdir(parents=True, exist_ok=True)
        made: dict[str, Any] = module.prepare(corpus_dir, work_dir)
        return {name: SourceSplit(read_cuts(Path(made[name]))) for name in chosen_splits(made, splits, str(path))}
