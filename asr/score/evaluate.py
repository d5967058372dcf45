"""Scores what an experiment has decoded: reports beside the hypotheses, rows for the ledger.

A search whose name continues another's of the same set (``modified_beam_lm`` and ``modified_beam``) is also compared with it,
utterance by utterance (paired bootstrap); that is how the gain of a language model is measured.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from asr import hypotheses
from asr.files import atomic_write, fingerprint
from asr.score import provenance
from asr.score.bootstrap import Interval, compare, interval
from asr.score.errors import Scored, score
from asr.score.ledger import Row
from asr.score.report import error_report, speaker_table
from asr.source import source

Over = Literal["utterances", "speakers"]
"""What the bootstrap resamples."""


@dataclass(frozen=True)
class Result:
    """One decoded file, scored."""

    path: Path
    header: hypotheses.Header
    scored: Scored
    interval: Interval


def score_file(path: Path, over: Over = "utterances") -> Result:
    """Raises ValueError for a file that is not complete or has no reference, naming it."""
    decoded = hypotheses.read(path)
    if not decoded.header.complete:
        raise ValueError(f"{path}: not every utterance is decoded; run the decoding stage again to complete it")
    try:
        scored = score(decoded.utterances)
        groups = resampling_groups(scored, over)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Result(path, decoded.header, scored, interval(scored.errors_N, scored.lengths_N, groups=groups))


def resampling_groups(scored: Scored, over: Over) -> list[str] | None:
    if over == "utterances":
        return None
    unknown = next((u.utterance.id for u in scored.utterances if u.utterance.speaker is None), None)
    if unknown is not None:
        raise ValueError(f"the speaker of '{unknown}' is not known, so there is no interval over speakers; ask for one over utterances")
    return [str(u.utterance.speaker) for u in scored.utterances]


def score_split(directory: Path, experiment: str, exp_dir: Path, *, command: str, over: Over = "utterances") -> list[Row]:
    """Scores each ``<search>.jsonl`` in ``directory``, and writes ``<search>.errors.txt`` and ``<search>.per_speaker.txt``.

    Rows come with the lowest WER first. Raises ValueError where nothing was decoded.
    """
    paths = sorted(directory.glob("*.jsonl"))
    if not paths:
        raise ValueError(f"{directory}: nothing decoded here; run 'asr decode --splits {directory.name}' first")
    found = {path.stem: score_file(path, over) for path in paths}
    rows = []
    for name, result in found.items():
        title = f"{experiment}, {result.header.split}, {result.header.search}"
        with atomic_write(directory / f"{name}.errors.txt") as file:
            file.write(error_report(result.scored, title))
        with atomic_write(directory / f"{name}.per_speaker.txt") as file:
            file.write(speaker_table(result.scored))
        rows.append(_row(result, _baseline(name, found), experiment, exp_dir, command, over))
    return sorted(rows, key=lambda row: (row.wer, row.search))


def _baseline(name: str, found: dict[str, Result]) -> Result | None:
    shorter = [other for other in found if name.startswith(f"{other}_")]
    return found[max(shorter, key=len)] if shorter else None


def _row(result: Result, baseline: Result | None, experiment: str, exp_dir: Path, command: str, over: Over) -> Row:
    header, words, characters = result.header, result.scored.words, result.scored.characters
    config = exp_dir / "config.yaml"
    tree, machine = source(), provenance.hardware()
    against = None
    if baseline is not None:
        comparison = compare(result.scored, baseline.scored, groups=resampling_groups(result.scored, over))
        against = {"search": baseline.header.search, "difference": comparison.difference,
                   "interval": [comparison.interval.low, comparison.interval.high], "probability_better": comparison.probability_better}
    return Row(
        experiment=experiment, split=header.split, search=header.search,
        config_hash=fingerprint(config if config.exists() else None, header.settings, header.scales)[:12],
        wer=words.rate, wer_low=result.interval.low, wer_high=result.interval.high, interval_over=over,
        utterances=len(result.scored.utterances), words=words.length,
        substitutions=words.substitutions, deletions=words.deletions, insertions=words.insertions,
        cer=characters.rate, characters=characters.length,
        settings=header.settings, scales=header.scales, tuned_on=header.tuned_on, against=against,
        checkpoint=header.checkpoint, training=provenance.training(exp_dir),
        decode_seconds=header.seconds, audio_seconds=header.audio_seconds, encoder_seconds=header.encoder_seconds,
        commit=tree.commit, dirty=tree.dirty, hardware=asdict(machine),
        date=datetime.fromtimestamp(result.path.stat().st_mtime, timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), command=command,
    )
