"""A folder of audio files whose transcripts lie beside them, or are lines of other files."""
from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Iterator, Literal, Mapping, Sequence

from pydantic import Field, field_validator

from asr.config import Config as BaseConfig
from asr.data.manifests import Dropped
from asr.data.sources.base import BYTE_ORDER_MARK, SourceSplit, chosen_splits, collect, number_or_text, read_headers, read_text

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aif", ".aiff", ".au", ".w64"})
OWN_FIELDS = ("speaker", "gender", "language")
ANY_SPACE = " "


class Folder:
    class Config(BaseConfig):
        """Every audio file below the corpus is an utterance; its id is its name without suffix, or, where two have that name, its path
        with '-' for '/'.

        text: the suffix of the file beside each audio file that holds its transcript (``.txt``, ``.lab``); or a file, or a pattern of
            files (``**/*.trans.txt``), with a line for each utterance.
        separator: between the fields of such a line; a space stands for any white space.
        fields: of such a line, in their order, ``id`` and ``text`` among them; the last is the rest of the line.
        path: a regular expression that is looked for in the audio's path, relative to the corpus; its named groups become fields of the
            utterance: ``(?P<split>train|test)/(?P<speaker>\\w+)/``. Without a field ``split``, everything is in the split ``all``.
        encoding: of the transcripts.
        """

        type: Literal["folder"] = "folder"
        text: str = Field(default=".txt", min_length=2)
        separator: str = Field(default=ANY_SPACE, min_length=1)
        fields: tuple[str, ...] = ("id", "text")
        path: str = ""
        encoding: str = "utf-8"

        @field_validator("path")
        @classmethod
        def _compiles(cls, path: str) -> str:
            try:
                re.compile(path)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            return path

        @field_validator("fields")
        @classmethod
        def _named(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
            if not {"id", "text"} <= set(fields):
                raise ValueError("'id' and 'text' must be among the fields")
            return fields

    def __init__(self, config: "Folder.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        paths = audio_paths(corpus_dir)
        if not paths:
            raise ValueError(f"{corpus_dir}: no audio file here (looked for {', '.join(sorted(AUDIO_SUFFIXES))})")
        transcripts = self._sidecars(corpus_dir, paths) if self.config.text.startswith(".") else self._lines(corpus_dir, paths)
        by_split: dict[str, dict[str, str]] = {}
        for id, path in paths.items():
            fields = transcripts.fields.setdefault(id, {})
            fields.update(path_fields(self.config.path, path))
            by_split.setdefault(fields.pop("split", "all"), {})[id] = path
        chosen = chosen_splits(sorted(by_split), splits, str(corpus_dir))
        found = {name: _read_split(name, by_split[name], transcripts, corpus_dir) for name in chosen}
        for split in list(found)[:1]:  # where a line without audio would belong is not known
            found[split].dropped.extend(Dropped(id, split, reason) for id, reason in transcripts.unused)
        return found

    def _sidecars(self, corpus_dir: Path, paths: Mapping[str, str]) -> "Transcripts":
        found = Transcripts()
        for id, path in paths.items():
            beside = (corpus_dir / path).with_suffix(self.config.text)
            try:
                text = beside.read_bytes().decode(self.config.encoding).removeprefix(BYTE_ORDER_MARK)
                found.fields[id] = {"text": " ".join(text.split())}
            except FileNotFoundError:
                found.errors[id] = f"no transcript: there is no {beside}"
            except UnicodeDecodeError:
                found.errors[id] = f"transcript not {self.config.encoding.upper()}: {beside}"
        return found

    def _lines(self, corpus_dir: Path, paths: Mapping[str, str]) -> "Transcripts":
        files = sorted(corpus_dir.glob(self.config.text))
        if not files:
            raise ValueError(f"{corpus_dir}: no file {self.config.text} here; correct corpus.source.text")
        found = Transcripts()
        for file in files:
            lines = line_fields(read_text(file, self.config.encoding), self.config.separator, self.config.fields)
            for number, fields in lines:
                self._add(found, fields, f"{file.relative_to(corpus_dir).as_posix()}:{number}", paths)
        for id in paths:
            if id not in found.fields and id not in found.errors:
                found.errors[id] = f"no transcript: not in {self.config.text}"
        return found

    def _add(self, found: "Transcripts", fields: dict[str, str] | None, where: str, paths: Mapping[str, str]) -> None:
        if fields is None:
            found.unused.append((where, f"not a line of {', '.join(self.config.fields)}: there is no {self.config.separator!r} in it"))
            return
        name = fields.pop("id")
        id = next((id for id in possible_ids(name) if id in paths), name)
        if id not in paths:
            found.unused.append((id, f"no audio file: {where}"))
        elif id in found.fields:
            found.unused.append((id, f"duplicate id: {where}; the first line was kept"))
        else:
            found.fields[id] = fields


@dataclass
class Transcripts:
    """fields: of every utterance that has a transcript, ``text`` among them, by id. errors: why others have none.
    unused: what was found for no audio file, by id or place, with the reason.
    """

    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    unused: list[tuple[str, str]] = field(default_factory=list)


def audio_paths(corpus_dir: Path) -> dict[str, str]:
    """Paths relative to the corpus of all audio files below it, by utterance id, in the order of the paths. Hidden files are left out."""
    paths = sorted(
        (PurePosixPath(directory).relative_to(corpus_dir) / name).as_posix()
        for directory, folders, names in os.walk(corpus_dir, followlinks=True) for name in names
        if PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
    )
    stems = Counter(PurePosixPath(path).stem for path in paths)
    return {stem if stems[stem := PurePosixPath(path).stem] == 1 else whole_id(path): path for path in paths}


def whole_id(path: str) -> str:
    return str(PurePosixPath(path).with_suffix("")).replace("/", "-")


def possible_ids(name: str) -> list[str]:
    """The ids that a line may mean by ``name``: some write the audio's file name or its path."""
    path = PurePosixPath(name.strip())
    without_suffix = path.with_suffix("") if path.suffix.lower() in AUDIO_SUFFIXES else path
    return [without_suffix.name, str(without_suffix).replace("/", "-")]


def line_fields(text: str, separator: str, names: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | None]]:
    """Number and fields of every line that is not blank; None for one that has no separator in it."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        values = line.strip().split(None if separator == ANY_SPACE else separator, len(names) - 1)
        values += [""] * (len(names) - len(values)) if separator == ANY_SPACE else []
        yield number, dict(zip(names, map(str.strip, values))) if len(values) == len(names) else None


def path_fields(expression: str, path: str) -> dict[str, str]:
    found = re.search(expression, path) if expression else None
    return {name: value for name, value in found.groupdict().items() if value is not None} if found else {}


def _read_split(split: str, paths: Mapping[str, str], transcripts: Transcripts, corpus_dir: Path) -> SourceSplit:
    from lhotse import SupervisionSegment

    dropped = [Dropped(id, split, transcripts.errors[id]) for id in paths if id in transcripts.errors]
    headers = read_headers({id: corpus_dir / path for id, path in paths.items() if id not in transcripts.errors})
    supervisions = []
    for id in paths:
        if id in transcripts.errors:
            continue
        fields = transcripts.fields[id]
        recording = headers.recordings.get(id)
        custom: dict[str, Any] = {key: number_or_text(value) for key, value in fields.items() if key not in ("text", *OWN_FIELDS)}
        supervisions.append(SupervisionSegment(
            id=id, recording_id=id, start=0.0, duration=recording.duration if recording else 0.0, text=fields["text"],
            custom=custom or None, **{key: fields.get(key) or None for key in OWN_FIELDS},  # type: ignore[arg-type]
        ))
    collected = collect(split, headers.recordings, supervisions, headers.errors)
    return SourceSplit(collected.cuts, dropped + collected.dropped)
