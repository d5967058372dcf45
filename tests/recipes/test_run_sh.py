"""The shell side of the recipes: options, help, and which stages run."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

RECIPES = sorted(ROOT.glob("egs/*/run.sh"))


def run(recipe: Path, *options: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": sys.prefix}
    return subprocess.run([str(recipe), *options], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_help_names_every_option_from_anywhere(recipe: Path, tmp_path: Path) -> None:
    finished = run(recipe, "--help", cwd=tmp_path)
    assert finished.returncode == 0
    for option in ("--stage", "--stop-stage", "--set", "--exp-dir", "--data-dir", "--corpus-dir", "--config"):
        assert option in finished.stdout
    assert recipe.parent.name in finished.stdout


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_every_recipe_has_the_same_numbered_stages(recipe: Path) -> None:
    text = recipe.read_text() + (ROOT / "utils/stages.sh").read_text()
    assert '. "$root/utils/stages.sh"\n' in text
    assert sorted(set(map(int, re.findall(r"^ *stage (\d)", text, re.M)))) == list(range(10))
    assert (recipe.parent / "conf" / "base.yaml").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--stagee", "3"], "no option --stagee"),
        (["--stage", "three"], "--stage needs a whole number"),
        (["--stage"], "--stage needs a value"),
        (["--set"], "--set needs KEY=VALUE"),
        (["3"], "takes options only"),
    ],
)
def test_wrong_options_are_named(options: list[str], message: str) -> None:
    finished = run(RECIPES[0], *options)
    assert finished.returncode != 0 and message in finished.stderr


def test_no_stage_runs_outside_the_asked_range() -> None:
    finished = run(RECIPES[0], "--stage", "10", "--stop-stage", "12")
    assert finished.returncode == 0 and "== stage" not in finished.stdout


def test_a_missing_corpus_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    directories = ("--corpus-dir", "nowhere", "--data-dir", "data", "--exp-dir", "exp")
    finished = run(ROOT / "egs/yesno/run.sh", "--stage", "1", *directories, cwd=tmp_path)
    assert finished.returncode == 2
    assert "nowhere" in finished.stderr and "Traceback" not in finished.stderr
    assert not list(tmp_path.rglob("*.jsonl.gz"))
