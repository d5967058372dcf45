"""The documentation speaks of what there is: links, paths, commands, options and configs in it are real."""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from asr.cli.main import COMMANDS
from asr.config import merge, read_yaml, validate
from asr.experiment import ExperimentConfig
from tests.conftest import ROOT

PAGES = sorted(path for pattern in ("*.md", "docs/*.md", "egs/README.md", "local/*.md", "utils/*.md", "tests/*.md", "asr/**/README.md")
               for path in ROOT.glob(pattern))
EXAMPLES = ("egs/mine", "asr/decode/mine")
"""Paths that the guides tell the reader to make."""

PATH = re.compile(
    r"(?<![\w/.*<-])((?:asr|local|utils|tests|docs|egs|requirements)/[\w/-]+(?:\.(?:py|sh|pl|md|yaml|txt))?)(?![\w*<{-])"
)
FENCED_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n(?:\n(?=    ))?)+", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code_lines(page: Path) -> list[str]:
    """Lines of fenced and of indented code, and inline code; comments taken off."""
    text = page.read_text(encoding="utf-8")
    fenced = [line for block in re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL) for line in block.splitlines()]
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = [line for line in prose.splitlines() if line.startswith("    ")]
    return [line.split(" #")[0].strip() for line in fenced + indented + re.findall(r"`([^`\n]+)`", prose)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    generated = ("egs/numbers/RESULTS.md",)
    dead = [link for link in links if "://" not in link and link not in generated and not (page.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_exist(page: Path) -> None:
    """What is written as a path of the repository, from its root."""
    text = page.read_text(encoding="utf-8")
    paths = PATH.findall(text)
    made_by_recipes = re.compile(r"egs/\w+/(exp|data|corpus|download|RESULTS)")
    missing = {path for path in paths if not (ROOT / path).exists() and not path.startswith(EXAMPLES) and not made_by_recipes.match(path)}
    assert missing == set()


@cache
def parser_of(program: str) -> argparse.ArgumentParser:
    """The parser of ``asr <command>`` or of a program in local/."""
    parser = argparse.ArgumentParser()
    if program.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(program).stem, ROOT / "local" / program)
        assert spec is not None and spec.loader is not None, f"there is no local/{program}"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(f"asr.cli.{program.replace('-', '_')}")
    module.add_arguments(parser)
    return parser


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Those of the parser and of its commands."""
    known = {option for action in parser._actions for option in action.option_strings}
    commands = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return known.union(*(options_of(command) for choices in commands for command in choices.values()))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = []
    for line in code_lines(page):
        command = re.match(r"(?:\S*/)?(?:python -m )?asr ([a-z-]+)(.*)", line)
        program = re.match(r"python (?:\S*/|\"\$)?local/(\w+\.py)(.*)", line)
        found = command or program
        if not found:
            continue
        if command and found[1] not in COMMANDS:
            wrong.append(line)
            continue
        known = options_of(parser_of(found[1]))
        wrong += [f"{line}: {option}" for option in re.findall(r"(?<=\s)(--[a-z][a-z-]*)", found[2]) if option not in known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_of_recipes_exist(page: Path) -> None:
    wrong = []
    for line in code_lines(page):
        found = re.match(r"(?:egs/(\w+)/|\./)run\.sh(.*)", line)
        if not found:
            continue
        recipe = ROOT / "egs" / (found[1] or "numbers") / "run.sh"
        text = (recipe.read_text() if recipe.exists() else "corpus_dir=\n") + (ROOT / "utils/setup.sh").read_text()
        variables = re.findall(r"^(\w+)=", text, re.MULTILINE) + re.findall(r"\$\{(\w+):=", text)
        known = {"--set", "--help", *(f"--{variable.replace('_', '-')}" for variable in variables)}
        wrong += [f"{line}: {option}" for option in re.findall(r"(?<=\s)(--[a-z][a-z-]*)", found[2]) if option not in known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_configs_are_valid(page: Path) -> None:
    """Blocks of YAML whose keys are an experiment's: whole ones as they are, parts of one on top of the config of egs/numbers."""
    text = page.read_text(encoding="utf-8")
    blocks = FENCED_YAML.findall(text) + INDENTED.findall(text)
    base = ROOT / "egs" / "numbers" / "conf"
    for block in blocks:
        try:
            values = yaml.safe_load(block)
        except yaml.YAMLError:
            continue
        if isinstance(values, dict) and values.keys() == {"splits"}:
            values = {"corpus": values}
        if isinstance(values, dict) and values.keys() <= {*ExperimentConfig.model_fields, "extends"}:
            whole = "extends" in values
            below = read_yaml(base / (values.pop("extends") if whole else "base.yaml"))
            validate(ExperimentConfig, merge(below, values), where=f"{name(page)}: {block}")
