"""A corpus as a table, one row per utterance: tab- or comma-separated, or JSON lines; one table, or one for each split."""
from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any, Iterable, Literal, Mapping, Sequence

from asr.config import Config as BaseConfig
from asr.data.sources.base import SourceSplit, chosen_splits, collect, number_or_text, read_headers, read_text

SPLIT = "{split}"
COLUMNS = ("id", "audio", "text", "split")
OWN_FIELDS = ("speaker", "gender", "language")


class Table:
    class Config(BaseConfig):
        """file: a table with a header line, or JSON lines (``.jsonl``, ``.json``); columns ``audio`` (a path), ``text``, and optionally
            ``id`` (else it is the audio's path without suffix, '-' for '/'), ``speaker``, ``split`` (all are in the split ``all`` without
            it), ``gender``, ``language`` and any others. ``{split}`` in it stands for a split's name: a table for each split.
        columns: what the table calls them, e.g. ``{audio: path, text: sentence, speaker: client_id}``.
        separator: between columns; null is a comma for ``.csv`` and a tab for the rest. Quotation marks mean something only in ``.csv``.
        audio_dir: where audio paths start, relative to the corpus; may contain ``{split}``.
        encoding: of the table.
        speakers: a table with a column ``speaker`` whose other columns are given to every utterance of the speaker; read if it exists.
        """

        type: Literal["table"] = "table"
        file: str = "transcripts.tsv"
        columns: dict[str, str] = {}
        separator: str | None = None
        audio_dir: str = "."
        encoding: str = "utf-8"
        speakers: str = "speakers.tsv"

    def __init__(self, config: "Table.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        by_split = self._rows(corpus_dir, splits)
        speakers = corpus_dir / self.config.speakers
        about = {row.pop("speaker"): row for row in read_table(speakers, ("speaker",))} if speakers.is_file() else {}
        return {
            name: _read_split(name, rows, about, corpus_dir / self.config.audio_dir.replace(SPLIT, name)) for name, rows in by_split.items()
        }

    def _rows(self, corpus_dir: Path, splits: Sequence[str] | None) -> dict[str, list[dict[str, str]]]:
        path = corpus_dir / self.config.file
        if SPLIT in self.config.file:
            chosen = chosen_splits(split_tables(corpus_dir, self.config.file), splits, str(path))
            return {name: self._table(Path(str(path).replace(SPLIT, name))) for name in chosen}
        by_split: dict[str, list[dict[str, str]]] = {}
        for row in self._table(path):
            by_split.setdefault(row.pop("split", "all"), []).append(row)
        return {name: by_split[name] for name in chosen_splits(by_split, splits, str(path))}

    def _table(self, path: Path) -> list[dict[str, str]]:
        config = self.config
        rows = read_table(path, ("audio", "text"), columns=config.columns, separator=config.separator, encoding=config.encoding)
        for row in rows:
            row.setdefault("id", str(PurePosixPath(row["audio"]).with_suffix("")).replace("/", "-"))
        return rows


def split_tables(corpus_dir: Path, pattern: str) -> list[str]:
    """What ``{split}`` stands for in the files that there are, sorted."""
    expression = re.escape(pattern).replace(re.escape(SPLIT), "(?P<split>[^/]+)", 1).replace(re.escape(SPLIT), "(?P=split)")
    paths = (path.relative_to(corpus_dir).as_posix() for path in corpus_dir.glob(pattern.replace(SPLIT, "*")))
    return sorted(found["split"] for path in paths if (found := re.fullmatch(expression, path)))


def read_table(
    path: Path, required: Sequence[str], *, columns: Mapping[str, str] | None = None, separator: str | None = None, encoding: str = "utf-8"
) -> list[dict[str, str]]:
    """Rows by column name, in which ``columns`` (our name to the table's) are renamed.

    Raises ValueError with the line for anything else than a table with the required columns.
    """
    text = read_text(path, encoding)
    wanted = {name: name for name in required} | dict(columns or {})
    read = _read_json if path.suffix in (".jsonl", ".json") else _read_columns
    ours = {theirs: name for name, theirs in wanted.items()}
    rows = read(path, text, separator, list(wanted.values()))
    return [{ours.get(key, key): value for key, value in row.items() if key in ours or key not in wanted} for row in rows]


def _read_columns(path: Path, text: str, separator: str | None, required: Sequence[str]) -> Iterable[dict[str, str]]:
    reader = table_reader(text, path.suffix, separator)
    header: list[str] = next(reader, [])
    missing = [name for name in required if name not in header]
    if missing:
        mark = separator or ("commas" if path.suffix == ".csv" else "tabs")
        raise ValueError(f"{path}: no column '{missing[0]}'; the first line must name the columns, separated by {mark}, "
                         f"{', '.join(required)} among them; it is {', '.join(header)[:200]!r}")
    try:
        for values in reader:
            if len(values) != len(header):
                raise ValueError(f"{path}:{reader.line_num}: {len(values)} columns where the header has {len(header)}")
            yield dict(zip(header, values))
    except csv.Error as error:  # a NUL, or a quotation mark that is never closed
        raise ValueError(f"{path}:{reader.line_num + 1}: {error}") from None


def table_reader(text: str, suffix: str, separator: str | None) -> Any:
    """A ``csv.reader`` by the rules of :class:`Table`. As all of them, it raises csv.Error."""
    if suffix == ".csv":
        return csv.reader(io.StringIO(text, newline=""), delimiter=separator or ",")
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator or "\t", quoting=csv.QUOTE_NONE)


def _read_json(path: Path, text: str, separator: str | None, required: Sequence[str]) -> Iterable[dict[str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not a JSON object on a line of its own ({error})") from None
        missing = [name for name in required if not isinstance(values, dict) or name not in values]
        if missing:
            raise ValueError(f"{path}:{number}: no '{missing[0]}'; every line needs {', '.join(required)}")
        yield {key: "" if value is None else str(value) for key, value in values.items() if not isinstance(value, (dict, list))}


def _read_split(split: str, rows: list[dict[str, str]], about: dict[str, dict[str, str]], audio_dir: Path) -> SourceSplit:
    from lhotse import SupervisionSegment

    headers = read_headers({row["audio"]: audio_dir / row["audio"] for row in rows})
    supervisions = []
    for row in rows:
        fields: dict[str, str] = {**about.get(row.get("speaker", ""), {}), **row}
        recording = headers.recordings.get(row["audio"])
        custom: dict[str, Any] = {
            key: number_or_text(value) for key, value in fields.items() if key not in (*COLUMNS, *OWN_FIELDS) and value != ""
        }
        supervisions.append(SupervisionSegment(
            id=row["id"], recording_id=row["audio"], start=0.0, duration=recording.duration if recording else 0.0, text=row["text"],
            custom=custom or None, **{key: fields.get(key) or None for key in OWN_FIELDS},  # type: ignore[arg-type]
        ))
    return collect(split, headers.recordings, supervisions, headers.errors)
