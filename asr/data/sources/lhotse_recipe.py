"""Any corpus that lhotse has a recipe for, by its name in ``lhotse.recipes``."""
from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any, Literal, Mapping, Sequence

from asr.config import Config as BaseConfig
from asr.data.sources.base import SourceSplit, chosen_splits, collect

PREPARE = "prepare_"


class LhotseRecipe:
    class Config(BaseConfig):
        """recipe: calls ``lhotse.recipes.prepare_<recipe>(corpus_dir, **options)``."""

        type: Literal["lhotse"] = "lhotse"
        recipe: str
        options: dict[str, Any] = {}

    def __init__(self, config: "LhotseRecipe.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        parts = named_parts(self._prepare(corpus_dir))
        chosen = chosen_splits(parts, splits, f"lhotse's recipe '{self.config.recipe}'")
        return {
            name: collect(name, {recording.id: recording for recording in parts[name]["recordings"]}, parts[name]["supervisions"], {})
            for name in chosen
        }

    def _prepare(self, corpus_dir: Path) -> Mapping[str, Any]:
        from lhotse import recipes

        name = self.config.recipe
        known = {key[len(PREPARE):]: value for key, value in vars(recipes).items() if key.startswith(PREPARE)}
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"near ones: {', '.join(near)}" if near else "see lhotse's documentation for the list"
            raise ValueError(f"corpus.source.recipe: lhotse has no recipe '{name}'; {hint}")
        prepare: Any = known[name]
        first = next(iter(inspect.signature(prepare).parameters))
        try:
            return prepare(**{first: corpus_dir, **self.config.options})
        except Exception as error:  # recipes check with asserts and raise what they like: all of it is about the corpus or the options
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{corpus_dir}: lhotse's recipe '{name}' cannot read this corpus ({type(error).__name__}: {lines[0]}); "
                             "check that the directory is the one its documentation asks for, and whole") from error


def named_parts(manifests: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """Recipes return {"recordings", "supervisions"}, or those by split, or by language and split: flat, by dotted name."""
    if "recordings" in manifests:
        return {prefix or "all": manifests} if "supervisions" in manifests else {}
    parts: dict[str, Mapping[str, Any]] = {}
    for key, value in manifests.items():
        if isinstance(value, Mapping):
            parts.update(named_parts(value, f"{prefix}.{key}" if prefix else str(key)))
    return parts
