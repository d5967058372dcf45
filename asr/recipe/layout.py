"""What kind of corpus a directory is, by what lies in it: the config of the source that reads it, and why."""
from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Iterator, Mapping, Sequence

from asr.data.sources.base import read_text
from asr.data.sources.folder import ANY_SPACE, audio_paths, possible_ids
from asr.data.sources.table import SPLIT, table_reader

ROLES = {
    "train": re.compile(r"(train|training|trn)([-_.\d].*)?", re.IGNORECASE),
    "dev": re.compile(r"(dev|devel|development|valid|validation|val)([-_.\d].*)?", re.IGNORECASE),
    "test": re.compile(r"(test|testing|tst|eval|evaluation)([-_.\d].*)?", re.IGNORECASE),
}

COLUMNS = {
    "audio": ("audio", "audio_path", "audio_filepath", "audio_file", "file_name", "filename", "file", "path", "wav", "clip"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "id": ("id", "utt_id", "utterance_id", "utt", "key", "segment_id"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id", "spk"),
    "split": ("split", "subset", "partition"),
    "gender": ("gender", "sex"),
    "language": ("language", "lang", "locale"),
}
"""What tables call our columns; of two names for one, the first counts."""

TABLE_SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
TABLE_DEPTH = 3
SIDECARS = (".txt", ".lab", ".trn", ".transcript")
SEPARATORS = ("\t", "|", ":", ";", ",", ANY_SPACE)
SAMPLE_LINES, SAMPLE_FILES = 500, 20
ENOUGH = 0.5
"""The fraction of the audio files, or of the lines, that must fit a layout."""


@dataclass(frozen=True)
class CorpusLayout:
    """source: the config of what reads the corpus. splits: those of the corpus that matter, or None for all. why: for the user."""

    corpus_dir: Path
    source: dict[str, Any]
    splits: tuple[str, ...] | None
    why: str


@dataclass(frozen=True)
class Hints:
    """What the user says about the corpus. columns: our name of a column to the table's; path: a regular expression for folders."""

    lhotse: str | None = None
    columns: Mapping[str, str] | None = None
    path: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        try:
            codecs.lookup(self.encoding)
            re.compile(self.path or "")
        except LookupError:
            raise ValueError(f"--encoding {self.encoding}: Python knows no encoding of this name") from None
        except re.error as error:
            raise ValueError(f"--path {self.path}: not a regular expression: {error}") from None


def role(split: str) -> str | None:
    """``train``, ``dev`` or ``test``, by a name such as ``data/train_clean``; None for any other."""
    for part in re.split(r"[/.]", split):
        for name, pattern in ROLES.items():
            if pattern.fullmatch(part):
                return name
    return None


def recognise(corpus: Path, hints: Hints) -> CorpusLayout:
    """``corpus``: a directory, or a table in it. Raises ValueError where nothing is recognised, saying what was looked for."""
    directory = corpus.parent if corpus.is_file() else corpus
    if not directory.is_dir():
        raise ValueError(f"{corpus}: no such directory")
    if hints.lhotse is not None:
        return CorpusLayout(directory, {"type": "lhotse", "recipe": hints.lhotse}, None, f"lhotse's recipe '{hints.lhotse}' was asked for")
    for look in (_kaldi, _tables, _folder):
        found = look(directory, corpus, hints)
        if found is not None:
            _check_hints(found, hints)
            return found
    raise ValueError(
        f"{corpus}: nothing here is a corpus that can be read: no Kaldi directory (wav.scp), no table ({', '.join(TABLE_SUFFIXES)}) whose "
        f"header has columns for audio ({', '.join(COLUMNS['audio'])}) and text ({', '.join(COLUMNS['text'])}), and no audio files with "
        f"transcripts beside them ({', '.join(SIDECARS)}) or in lines that begin with the names of audio files. "
        "Say which columns they are (--columns audio=... text=...), name a lhotse recipe (--lhotse), or see docs/add-a-corpus.md"
    )


def _check_hints(found: CorpusLayout, hints: Hints) -> None:
    kind = found.source["type"]
    if hints.columns and kind != "table":
        raise ValueError(f"--columns is about tables, and {found.corpus_dir} was taken for another kind of corpus: {found.why}")
    if hints.path is not None and kind != "folder":
        raise ValueError(f"--path is about folders of audio, and {found.corpus_dir} was taken for another kind of corpus: {found.why}")


# ---------------------------------------------------------------- Kaldi


def _kaldi(directory: Path, corpus: Path, hints: Hints) -> CorpusLayout | None:
    splits = tuple(sorted(path.parent.relative_to(directory).as_posix() for path in directory.rglob("wav.scp")))
    if not splits or corpus.is_file():
        return None
    return CorpusLayout(directory, {"type": "kaldi"}, splits, f"Kaldi data directories (wav.scp): {', '.join(splits)}")


# ---------------------------------------------------------------- tables


def _tables(directory: Path, corpus: Path, hints: Hints) -> CorpusLayout | None:
    paths = [corpus] if corpus.is_file() else _files(directory, TABLE_SUFFIXES, TABLE_DEPTH)
    found = {}
    for path in paths:
        columns, separator = _header(path, hints)
        roles = _roles(columns, hints.columns or {}, path)
        if {"audio", "text"} <= roles.keys():
            found[path.relative_to(directory).as_posix()] = (columns, separator, roles)
    if not found:
        if hints.columns or corpus.is_file():
            raise ValueError(f"{corpus}: no table here has the columns for audio and text; their headers: "
                             + "; ".join(f"{path.name}: {', '.join(_header(path, hints)[0])[:200]}" for path in paths[:5]))
        return None
    pattern, splits = _one_pattern(directory, sorted(found))
    columns, separator, roles = found[pattern.replace(SPLIT, splits[0]) if splits else pattern]
    source: dict[str, Any] = {"type": "table", "file": pattern}
    renamed = {ours: theirs for ours, theirs in roles.items() if ours != theirs}
    if renamed:
        source["columns"] = renamed
    if separator is not None:
        source["separator"] = separator
    if hints.encoding != "utf-8":
        source["encoding"] = hints.encoding
    audio_dir = _audio_dir(directory, pattern, splits, roles["audio"], source)
    if audio_dir != ".":
        source["audio_dir"] = audio_dir
    taken = ", ".join(f"{ours} from '{theirs}'" for ours, theirs in roles.items())
    passed = [f"'{name}' too" for ours in roles for name in COLUMNS[ours] if name in columns and name != roles[ours]]
    why = f"{'tables' if splits else 'the table'} {pattern}: {taken}" + (f" (there is {', '.join(passed)})" if passed else "")
    return CorpusLayout(directory, source, splits, why)


def _files(directory: Path, suffixes: Sequence[str], depth: int) -> list[Path]:
    """Visible files with one of the suffixes, in at most ``depth`` folders."""
    found = []
    for folder, folders, names in os.walk(directory):
        below = len(Path(folder).relative_to(directory).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if below + 1 < depth else []
        found += [Path(folder) / name for name in sorted(names) if name.endswith(tuple(suffixes)) and not name.startswith(".")]
    return found


def _header(path: Path, hints: Hints) -> tuple[list[str], str | None]:
    """The columns of a table, and its separator where it is not the usual one of its suffix."""
    with open(path, "rb") as file:
        start = file.read(1 << 16).decode(hints.encoding, "replace").removeprefix("\ufeff")
    line = start.split("\n")[0].rstrip("\r")
    if path.suffix in (".jsonl", ".json"):
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            return [], None
        return (list(values) if isinstance(values, dict) else []), None
    usual = "," if path.suffix == ".csv" else "\t"
    separator = usual if usual in line else next((other for other in ("\t", ";", "|", ",") if other in line), usual)
    columns: list[str] = next(table_reader(line.replace("\0", ""), path.suffix, separator), [])
    return columns, None if separator == usual else separator


def _roles(columns: Sequence[str], given: Mapping[str, str], path: Path) -> dict[str, str]:
    """Our name of a column to the table's."""
    roles = {}
    for ours, names in COLUMNS.items():
        theirs = given.get(ours) or next((name for name in names if name in columns), None)
        if theirs in columns and theirs is not None:
            roles[ours] = theirs
    return roles


def _one_pattern(directory: Path, tables: Sequence[str]) -> tuple[str, tuple[str, ...] | None]:
    """The one table, or the pattern of one table for each split and the splits."""
    if len(tables) == 1 and role(PurePosixPath(tables[0]).stem) is None:
        return tables[0], None
    patterns: dict[str, list[str]] = {}
    for table in tables:
        parts = PurePosixPath(table).parts
        for place, part in enumerate(parts):
            stem = PurePosixPath(part).stem if place == len(parts) - 1 else part
            if role(stem) is not None:
                pattern = "/".join((*parts[:place], part.replace(stem, SPLIT, 1), *parts[place + 1:]))
                patterns.setdefault(pattern, []).append(stem)
    if len(patterns) == 1:
        pattern, splits = patterns.popitem()
        return pattern, tuple(splits)
    raise ValueError(f"{directory}: {len(tables)} tables, {', '.join(tables[:10])}: name the one that lists the whole corpus: "
                     f"asr new-recipe NAME {directory / tables[0]}")


def _audio_dir(directory: Path, pattern: str, splits: Sequence[str] | None, column: str, source: Mapping[str, Any]) -> str:
    """Where the audio paths of a table start: the folder in which most of the first ones exist."""
    table = pattern.replace(SPLIT, splits[0]) if splits else pattern
    audio = list(islice(_values(directory / table, column, source), SAMPLE_FILES))
    beside = PurePosixPath(pattern).parent.as_posix()
    folders = sorted(path.name for path in (directory / beside.replace(SPLIT, splits[0] if splits else "")).iterdir() if path.is_dir())
    candidates = list(dict.fromkeys([".", beside, *((PurePosixPath(beside) / name).as_posix() for name in folders)]))
    if splits:
        candidates = [name.replace(splits[0], SPLIT) if name.split("/")[-1] == splits[0] else name for name in candidates]

    def existing(candidate: str) -> int:
        start = directory / (candidate.replace(SPLIT, splits[0]) if splits else candidate)
        return sum((start / name).is_file() for name in audio)

    best = max(candidates, key=existing)  # of equal ones, the first
    return best if existing(best) else "."


def _values(path: Path, column: str, source: Mapping[str, Any]) -> Iterator[str]:
    text = read_text(path, source.get("encoding", "utf-8"))
    if path.suffix in (".jsonl", ".json"):
        yield from (str(json.loads(line).get(column, "")) for line in text.split("\n") if line.strip())
        return
    reader = table_reader(text, path.suffix, source.get("separator"))
    place = next(reader).index(column)
    yield from (row[place] for row in reader if len(row) > place)


# ---------------------------------------------------------------- folders of audio


def _folder(directory: Path, corpus: Path, hints: Hints) -> CorpusLayout | None:
    paths = audio_paths(directory)
    if not paths or corpus.is_file():
        return None
    found = _sidecars(directory, paths) or _lines(directory, paths, hints)
    if found is None:
        return None
    source, why = found
    if hints.encoding != "utf-8":
        source["encoding"] = hints.encoding
    expression = path_expression(list(paths.values())) if hints.path is None else hints.path
    if expression:
        source["path"] = expression
        groups = ", ".join(re.compile(expression).groupindex)
        why += f"; {groups} by {expression}, " + ("as asked for" if hints.path is not None else "taken from the folders' names")
    return CorpusLayout(directory, source, None, why)


def _sidecars(directory: Path, paths: Mapping[str, str]) -> tuple[dict[str, Any], str] | None:
    counts = {suffix: sum((directory / path).with_suffix(suffix).is_file() for path in paths.values()) for suffix in SIDECARS}
    suffix = max(counts, key=lambda name: counts[name])
    if counts[suffix] < ENOUGH * len(paths):
        return None
    why = f"{counts[suffix]} of {len(paths)} audio files have their transcript beside them, in {suffix}"
    return {"type": "folder", "text": suffix}, why


def _lines(directory: Path, paths: Mapping[str, str], hints: Hints) -> tuple[dict[str, Any], str] | None:
    """The files, and the separator, by which most of the lines begin with the name of an audio file."""
    groups: dict[str, list[Path]] = {}
    known = {path for name in paths.values() for path in [directory / name]}
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if path not in known and not name.startswith(".") and path.suffix in ("", ".txt", ".tsv", ".csv", ".lst", ".text"):
                pattern = "**/*.trans.txt" if name.endswith(".trans.txt") else path.relative_to(directory).as_posix()
                groups.setdefault(pattern, []).append(path)
    best: tuple[int, str, str, list[str]] | None = None
    for pattern, files in groups.items():
        lines = [line for file in files[:SAMPLE_FILES] for line in _first_lines(file, hints.encoding)]
        for separator in SEPARATORS:
            fits = [line for line in lines if _fits(line, separator, paths)]
            if len(fits) >= max(1, ENOUGH * len(lines)) and (best is None or len(fits) > best[0]):
                best = len(fits), pattern, separator, fits
    if best is None:
        return None
    count, pattern, separator, fits = best
    source: dict[str, Any] = {"type": "folder", "text": pattern, "separator": separator}
    width = {line.count(separator) + 1 for line in fits}
    if separator in ("\t", "|") and len(width) == 1 and (columns := width.pop()) > 2:
        source["fields"] = ["id", *(f"field{number}" for number in range(2, columns)), "text"]
    shown = "white space" if separator == ANY_SPACE else repr(separator)
    return source, f"the lines of {pattern} are the name of an audio file, {shown}, its transcript ({count} of the lines looked at fit)"


def _first_lines(path: Path, encoding: str) -> list[str]:
    with open(path, "rb") as file:
        lines = file.read(1 << 18).decode(encoding, "replace").removeprefix("\ufeff").splitlines()
    return [line for line in lines[:SAMPLE_LINES] if line.strip()]


def _fits(line: str, separator: str, paths: Mapping[str, str]) -> bool:
    name, *rest = line.strip().split(None if separator == ANY_SPACE else separator, 1)
    return bool(rest) and any(id in paths for id in possible_ids(name))


def path_expression(paths: Sequence[str]) -> str:
    """A regular expression that takes the split and the speaker from the folders of the paths; empty where no level is either.

    A level whose names are all roles (train, valid, test ...) is the split. The first other level of at least two names, with two files
    or more in each on the average, is taken for the speaker: right in most corpora, and harmless in splits where it is something else.
    """
    parents = [PurePosixPath(path).parts[:-1] for path in paths]
    parts: list[str] = []
    named: list[str] = []
    for level in range(min(map(len, parents), default=0)):
        names = Counter(folders[level] for folders in parents)
        if "split" not in named and all(role(name) for name in names):
            group: str | None = "split"
        elif "speaker" not in named and 2 <= len(names) <= len(paths) / 2:
            group = "speaker"
        else:
            group = None
        if group is not None:
            named.append(group)
        parts.append(f"(?P<{group}>[^/]+)" if group else re.escape(next(iter(names))) if len(names) == 1 else "[^/]+")
        if len(named) == 2:
            break
    while parts and not parts[-1].startswith("(?P<"):
        parts.pop()
    return "^" + "/".join(parts) + "/" if named else ""
