"""Scores what an experiment has decoded: reports beside the hypotheses, rows for the ledger.

A search whose name continues another's of the same set (``modified_beam_lm`` and ``modified_beam``) is also compared with it,
utterance by utterance (paired bootstrap); that is how the gain of a language model is measured.
"""
from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, Mapping

from asr import hypotheses
from asr.files import atomic_write, fingerprint
from asr.score import calibration, provenance
from asr.score.bootstrap import Interval, compare, interval
from asr.score.errors import Scored, score
from asr.score.ledger import Row
from asr.score.report import error_report, speaker_table
from asr.source import source

Over = Literal["utterances", "speakers"]
"""What the bootstrap resamples."""

NOT_TEST_SETS = ("train", "dev")
"""Splits on which scales may be tuned."""


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


def score_split(directory: Path, experiment: str, exp_dir: Path, *, command: str, over: Over = "utterances",
                tuned_on_test: bool = False, input: Mapping[str, Any] | None = None) -> list[Row]:
    """Scores each ``<search>.jsonl`` in ``directory``, and writes ``<search>.errors.txt`` and ``<search>.per_speaker.txt``.

    input: what was read of the set, for its rows.
    Rows come with the lowest WER first. Raises ValueError where nothing was decoded, and where scales were tuned on utterances of
    a test set, unless ``tuned_on_test`` says that this is known.
    """
    paths = sorted(directory.glob("*.jsonl"))
    if not paths:
        raise ValueError(f"{directory}: nothing decoded here; run 'asr decode --splits {directory.name}' first")
    found = {path.stem: score_file(path, over) for path in paths}
    if not tuned_on_test:
        for result in found.values():
            _refuse_seen(result)
    rows = []
    for name, result in found.items():
        title = f"{experiment}, {result.header.split}, {result.header.search}"
        with atomic_write(directory / f"{name}.errors.txt") as file:
            file.write(error_report(result.scored, title))
        with atomic_write(directory / f"{name}.per_speaker.txt") as file:
            file.write(speaker_table(result.scored))
        rows.append(_row(result, _baseline(name, found), experiment, exp_dir, command, over, input))
    return sorted(rows, key=lambda row: (row.wer, row.search))


def seen_in_tuning(result: Result) -> int:
    """How many utterances of a decoded set its scales were tuned on: by the header, and by ids where the tuned set is decoded, too."""
    header, ids = result.header, {scored.utterance.id for scored in result.scored.utterances}
    if header.tuned_on is None:
        return 0
    tuned = result.path.parent.parent / header.tuned_on / result.path.name
    if header.tuned_on == header.split or not tuned.exists():
        return len(ids) if header.tuned_on == header.split else 0
    return len(ids & {utterance.id for utterance in hypotheses.read(tuned).utterances})


def calibration_of(result: Result) -> calibration.Calibration | None:
    """That of the experiment, which lies beside its decoded sets."""
    header = result.header
    system = calibration.system_of(header.checkpoint, header.settings)
    return calibration.find(result.path.parent.parent / "calibration.json", header.search, system)


def _refuse_seen(result: Result) -> None:
    header, seen = result.header, seen_in_tuning(result)
    if seen and header.split not in NOT_TEST_SETS:
        raise ValueError(
            f"{result.path}: its scales were tuned on {seen} of its {len(result.scored.utterances)} utterances (of '{header.tuned_on}'), "
            "so its error rate says nothing about other speech; tune on dev and decode again, or add --tuned-on-test, which marks the row"
        )


def _baseline(name: str, found: dict[str, Result]) -> Result | None:
    shorter = [other for other in found if name.startswith(f"{other}_")]
    return found[max(shorter, key=len)] if shorter else None


def _row(
    result: Result, baseline: Result | None, experiment: str, exp_dir: Path, command: str, over: Over, input: Mapping[str, Any] | None
) -> Row:
    header, words, characters, mixed = result.header, result.scored.words, result.scored.characters, result.scored.mixed
    config = exp_dir / "config.yaml"
    tree, machine = source(), provenance.hardware()
    (confidence_N, right_N), fitted = calibration.judged_words(result.scored), calibration_of(result)
    against = None
    if baseline is not None:
        comparison = compare(result.scored, baseline.scored, groups=resampling_groups(result.scored, over))
        against = {"search": baseline.header.search, "difference": comparison.difference,
                   "interval": [comparison.interval.low, comparison.interval.high], "probability_better": comparison.probability_better,
                   "p_value": comparison.p_value}
    oracle = result.scored.oracle
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
        ece=calibration.expected_error(confidence_N, right_N),
        ece_calibrated=None if fitted is None else calibration.expected_error(fitted(confidence_N), right_N),
        mer=None if mixed is None else mixed.rate, seen_in_tuning=seen_in_tuning(result),
        oracle_wer=None if oracle is None else oracle.rate,
        language_error=None if result.scored.languages is None else result.scored.languages.rate, input=input,
    )
