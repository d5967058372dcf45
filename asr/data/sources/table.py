"""A corpus as a tab-separated table: one line per utterance."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal, Sequence

from asr.config import Config as BaseConfig
from asr.data.sources.base import SourceSplit, chosen_splits, collect, number_or_text, read_headers

REQUIRED = ("id", "audio", "text")
OWN_FIELDS = ("speaker", "gender", "language")


class Table:
    class Config(BaseConfig):
        """file: tab-separated, UTF-8, with a header line; columns ``id``, ``audio`` (a path relative to the corpus), ``text``, and
            optionally ``speaker``, ``split`` (all are in the split ``all`` without it), ``gender``, ``language`` and any others.
        speakers: a table with a column ``speaker`` whose other columns are given to every utterance of the speaker; read if it exists.
        """

        type: Literal["table"] = "table"
        file: str = "transcripts.tsv"
        speakers: str = "speakers.tsv"

    def __init__(self, config: "Table.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str], work_dir: Path) -> dict[str, SourceSplit]:
        path = corpus_dir / self.config.file
        by_split: dict[str, list[dict[str, str]]] = {}
        for row in read_table(path, REQUIRED):
            by_split.setdefault(row.pop("split", "all"), []).append(row)
        speakers = corpus_dir / self.config.speakers
        about = {row.pop("speaker"): row for row in read_table(speakers, ("speaker",))} if speakers.is_file() else {}
        return {name: _read_split(name, by_split[name], about, corpus_dir) for name in chosen_splits(by_split, splits, str(path))}


def read_table(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """Rows by column name. Raises ValueError with the line for anything else than a table with the required columns."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(reader, [])
            missing = [name for name in required if name not in header]
            if missing:
                raise ValueError(f"{path}: no column '{missing[0]}'; the first line must name the columns, separated by tabs: "
                                 f"{', '.join(required)}")
            rows = []
            for values in reader:
                if len(values) != len(header):
                    raise ValueError(f"{path}:{reader.line_num}: {len(values)} columns where the header has {len(header)}")
                rows.append(dict(zip(header, values)))
            return rows
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; make the corpus first (stage 0), or correct --corpus-dir") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from None


def _read_split(split: str, rows: list[dict[str, str]], about: dict[str, dict[str, str]], corpus_dir: Path) -> SourceSplit:
    from lhotse import SupervisionSegment

    headers = read_headers({row["audio"]: corpus_dir / row["audio"] for row in rows})
    supervisions = []
    for row in rows:
        fields: dict[str, str] = {**about.get(row.get("speaker", ""), {}), **row}
        recording = headers.recordings.get(row["audio"])
        custom: dict[str, Any] = {
            key: number_or_text(value) for key, value in fields.items() if key not in (*REQUIRED, *OWN_FIELDS, "split") and value != ""
        }
        supervisions.append(SupervisionSegment(
            id=row["id"], recording_id=row["audio"], start=0.0, duration=recording.duration if recording else 0.0, text=row["text"],
            custom=custom or None, **{key: fields.get(key) or None for key in OWN_FIELDS},  # type: ignore[arg-type]
        ))
    return collect(split, headers.recordings, supervisions, headers.errors)
