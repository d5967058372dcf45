"""A corpus of manifests that are there already: what other recipes prepared, what segmentation and pseudo-labelling wrote."""
from __future__ import annotations

from pathlib import Path
from typing import Literal, Sequence

from asr.config import Config as BaseConfig
from asr.data.manifests import read_cuts
from asr.data.sources.base import SourceSplit, chosen_splits

SUFFIX = ".jsonl.gz"


class Manifests:
    class Config(BaseConfig):
        """Each ``<split>.jsonl.gz`` in the corpus directory is a split: cuts as in data/manifests, one supervision each."""

        type: Literal["manifests"] = "manifests"

    def __init__(self, config: "Manifests.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        found = sorted(path.name.removesuffix(SUFFIX) for path in corpus_dir.glob(f"*{SUFFIX}"))
        chosen = chosen_splits(found, splits, f"{corpus_dir} (manifests)")
        return {name: SourceSplit([cut.drop_features() for cut in read_cuts(corpus_dir / f"{name}{SUFFIX}")]) for name in chosen}
