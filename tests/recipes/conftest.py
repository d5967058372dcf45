from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator

import pytest

from tests.recipes.recipe import Recipe, contents

SIZES = ("--utterances", "60", "--dev-utterances", "10", "--test-utterances", "10", "--speakers", "6", "--lm-sentences", "300")


@dataclass(frozen=True)
class Finished:
    """A recipe that has been run once without a hitch; what that left, and how often each stage changed a file."""

    recipe: Recipe
    contents: dict[str, Any]
    changes: dict[int, int]

    @contextmanager
    def again(self, *kept: str) -> Iterator[Recipe]:
        """The same recipe with nothing done yet but what is ``kept``, in the same place, for paths are part of what a run leaves."""
        directory = self.recipe.directory
        aside = directory.rename(directory.with_name("aside"))
        try:
            for name in kept:
                shutil.copytree(aside / name, directory / name)
            yield self.recipe
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            aside.rename(directory)


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """egs/numbers at a tiny size, stage by stage."""
    recipe = Recipe("numbers", tmp_path_factory.mktemp("numbers") / "run", *SIZES)
    changes = {stage: recipe.count_changes(stage) for stage in range(10)}
    return Finished(recipe, contents(recipe.directory), changes)
