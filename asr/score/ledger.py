"""The ledger: one JSON line per result, from which RESULTS.md is made and nothing is ever typed by hand.

Rows are only ever added. A result that is scored again (same experiment, set, search and config) takes its old row's place.
"""
from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from asr.files import atomic_write


@dataclass(frozen=True)
class Row:
    """One result. Rates are fractions, not per cent.

    wer_low, wer_high: 95 % bootstrap interval over ``interval_over`` ("utterances" or "speakers").
    scales, tuned_on: scorer scales of the search and the split they were tuned on, None where none were.
    against: difference of the WER to another search of the same set (see asr.score.evaluate), or None.
    config_hash: of the experiment's config and the search's settings.
    training: the trainer's summary, None where there is none.
    decode_seconds, audio_seconds: wall time of decoding, and the audio decoded in it. encoder_seconds: the encoder's part of it,
        None in rows from before it was noted.
    oracle_wer: of the best choice from each n-best list; None where the search kept none.
    date: when the set was decoded; commit, dirty, hardware, command: of scoring.
    mer: mixed error rate; None where no reference has a CJK character.
    language_error: of how many utterances the language was not recognised; None where references do not tell it.
    ece, ece_calibrated: expected calibration error of the words' confidences, before and after the calibration fitted on dev (see
        asr.score.calibration); None where there are no confidences, or no calibration.
    input: what the model read of this set: ``name``, ``units`` (whether discrete units were in it), and of a second of audio the
        ``frames``, or units, and ``bits``; None where that was not known when scoring.
    seen_in_tuning: how many of the utterances the scales were tuned on; above 0 for a test set, the result is not to be trusted.
    """

    experiment: str
    split: str
    search: str
    config_hash: str
    wer: float
    wer_low: float
    wer_high: float
    interval_over: str
    utterances: int
    words: int
    substitutions: int
    deletions: int
    insertions: int
    cer: float
    characters: int
    settings: Mapping[str, Any]
    scales: Mapping[str, float]
    tuned_on: str | None
    against: Mapping[str, Any] | None
    checkpoint: str
    training: Mapping[str, Any] | None
    decode_seconds: float
    audio_seconds: float
    commit: str | None
    dirty: bool | None
    hardware: Mapping[str, Any]
    date: str
    command: str
    encoder_seconds: float | None = None
    mer: float | None = None
    ece: float | None = None
    ece_calibrated: float | None = None
    seen_in_tuning: int = 0
    oracle_wer: float | None = None
    language_error: float | None = None
    input: Mapping[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.experiment, self.split, self.search, self.config_hash

    @property
    def real_time_factor(self) -> float | None:
        return self.decode_seconds / self.audio_seconds if self.audio_seconds else None

    @property
    def search_real_time_factor(self) -> float | None:
        """Of the search alone."""
        if self.encoder_seconds is None or not self.audio_seconds:
            return None
        return (self.decode_seconds - self.encoder_seconds) / self.audio_seconds


def append(path: Path, rows: Iterable[Row]) -> None:
    """Adds ``rows``, each in place of an older row of its key. The file is replaced whole; two writers wait for each other."""
    new = {row.key: row for row in rows}
    with _locked(path):
        kept = [row for row in read(path) if row.key not in new] if path.exists() else []
        with atomic_write(path) as file:
            file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in (*kept, *new.values()))


def read(path: Path) -> list[Row]:
    """Raises ValueError naming the file and the line that is not a row."""
    names = {field.name for field in fields(Row)}
    required = {field.name for field in fields(Row) if field.default is MISSING}
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                values = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not JSON ({error.msg}); remove the line and score again") from None
            if not isinstance(values, dict) or not required <= values.keys() <= names:
                raise ValueError(f"{path}:{number}: not a row of this version's ledger; move the file away and score again")
            rows.append(Row(**values))
    return rows


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
