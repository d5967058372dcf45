"""A recipe's files: run.sh as all recipes have it, a config that says why, and a README with what was found."""
from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from asr.config import load_config
from asr.experiment import ExperimentConfig
from asr.files import atomic_dir
from asr.recipe.choices import Choice
from asr.recipe.proposal import Proposal
from asr.recipe.templates import RUN_SH, TINY

WIDTH = 118
def write_recipe(proposal: Proposal, egs: Path, name: str, *, fetch: Sequence[str] = ()) -> Path:
    """Writes ``egs/<name>/``, whole or not at all.

    fetch: arguments of local/download_corpus.py that bring the corpus; without any, the recipe looks for it where it is now.
    Raises ValueError where the recipe exists, or ``egs`` is not the recipes' directory of a checkout.
    """
    directory = egs / name
    check_new(egs, name)
    summary = f"{name}: {proposal.facts[0]}"
    with atomic_dir(directory) as partial:
        (partial / "conf").mkdir()
        (partial / "conf" / "base.yaml").write_text(config_text(proposal.chosen.choices, summary), encoding="utf-8")
        (partial / "conf" / "tiny.yaml").write_text(TINY, encoding="utf-8")
        (partial / "README.md").write_text(readme_text(proposal, name, fetch), encoding="utf-8")
        (partial / "run.sh").write_text(run_text(proposal, name, summary, fetch), encoding="utf-8")
        (partial / "run.sh").chmod(0o755)
        for config in ("base", "tiny"):
            load_config(ExperimentConfig, partial / "conf" / f"{config}.yaml")
    return directory


def check_new(egs: Path, name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise ValueError(f"'{name}' cannot be a recipe's name: small letters, digits and _ only")
    if not (egs / "searches.yaml").is_file():
        raise ValueError(f"{egs}: not the directory of the recipes, egs/ of a checkout (searches.yaml is missing); name it with --egs-dir")
    if (egs / name).exists():
        raise ValueError(f"{egs / name}: this recipe exists already and is never overwritten; choose another name, or remove it first")


def config_text(choices: Sequence[Choice], summary: str) -> str:
    lines = [*_comment(f"{summary}. Written by 'asr new-recipe': each choice says why, and is yours to change.", 0),
             "extends: ../../searches.yaml", "name: conformer"]
    open_sections: list[str] = []
    for choice in choices:
        *sections, key = choice.key.split(".")
        shared = 0
        while shared < min(len(sections), len(open_sections)) and sections[shared] == open_sections[shared]:
            shared += 1
        lines += [f"{'  ' * depth}{sections[depth]}:" for depth in range(shared, len(sections))]
        open_sections = sections
        lines += _comment(choice.why, len(sections))
        lines.append(f"{'  ' * len(sections)}{key}: {_flow(choice.value)}")
    return "\n".join(lines) + "\n"


def _comment(text: str, depth: int) -> list[str]:
    lead = f"{'  ' * depth}# "
    return textwrap.wrap(_printable(text), WIDTH, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False) if text else []


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else f"U+{ord(character):04X}" for character in text)


def _flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=100_000).removesuffix("...\n").strip()


def run_text(proposal: Proposal, name: str, summary: str, fetch: Sequence[str]) -> str:
    where = f"download/{name}" if fetch else str(proposal.layout.corpus_dir)
    copy = f"./run.sh --corpus-dir /path/to/{name}"
    values = {
        "NAME": name,
        "SUMMARY": "\n".join(_comment(f"{summary}.", 0)),
        "USAGE": f"{'./run.sh':{len(copy)}}    # {'fetches the corpus' if fetch else 'all stages'}",
        "COPY": copy,
        "DEFAULT": where,
        "CORPUS_DIR": shlex.quote(where),
        "FETCH": shlex.join(fetch) + " " if fetch else "",
        "TESTS": "" if proposal.chosen.tests == ["test"] else f"test_splits=({' '.join(proposal.chosen.tests)})\n",
    }
    text = RUN_SH
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def readme_text(proposal: Proposal, name: str, fetch: Sequence[str]) -> str:
    lines = [f"# {name}", "", "Written by `asr new-recipe`, which looked at the corpus; `conf/base.yaml` has every choice with its reason.",
             "", "```", f"egs/{name}/run.sh --help", f"egs/{name}/run.sh --corpus-dir CORPUS", "```", "", "## The corpus", ""]
    lines += _items([*([f"stage 0 fetches it: `{shlex.join(fetch)}`"] if fetch else []), *proposal.facts])
    lines += ["", "## What to know about it", ""]
    lines += _items([str(finding) for finding in proposal.findings] or ["Nothing was found to be wrong."])
    lines += ["", "## The splits", "", "| split | utterances | hours | speakers |", "|---|---|---|---|"]
    for split, items in proposal.chosen.splits.items():
        speakers = len({item.speaker for item in items if item.speaker is not None})
        lines.append(f"| {split} | {len(items)} | {sum(item.duration for item in items) / 3600:.2f} | {speakers or '?'} |")
    return "\n".join(lines) + "\n"


def _items(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(
        _printable(text), WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)]
