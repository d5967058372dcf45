"""A look at a corpus, and all that follows from it."""
from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from asr.data.sources import SourceConfig, open_source
from asr.recipe.choices import START, Choices, choose
from asr.recipe.layout import CorpusLayout, Hints, recognise
from asr.recipe.survey import Finding, Survey, corpus_findings, facts, survey, unusable_findings
from asr.recipe.text_rules import TextRules, propose_text_rules


@dataclass(frozen=True)
class Proposal:
    """facts: lines about the corpus as it is. findings: what a person should know. chosen: the config with its reasons."""

    layout: CorpusLayout
    survey: Survey
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]
    chosen: Choices


def model_to_start_from(egs_dir: Path) -> str | None:
    """The model of ``make demo`` where it has been trained, as recipes in ``egs_dir`` call it."""
    return START if (egs_dir / START.removeprefix("../") / "train_summary.json").exists() else None


def look_at(corpus: Path, hints: Hints, start: str | None = None) -> Proposal:
    """Reads every header and every transcript, decodes no audio. Raises ValueError for what cannot be made a recipe of.

    start: see :func:`model_to_start_from`.
    """
    layout = recognise(corpus.resolve(), hints)
    source = open_source(TypeAdapter(SourceConfig).validate_python(layout.source))
    with tempfile.TemporaryDirectory() as work_dir:
        found = source.read(layout.corpus_dir, layout.splits, Path(work_dir))
    seen = survey(found)
    rules: TextRules = propose_text_rules(seen.utterances)
    chosen = choose(layout, found, seen, rules, start)
    findings = (*unusable_findings(seen.unusable), *corpus_findings(seen), *rules.findings, *chosen.findings)
    return Proposal(layout, seen, tuple(facts(seen)), findings, chosen)
