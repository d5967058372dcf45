"""Manifests: a split's cuts as JSON lines, and the list of what was dropped.

A cut here is a lhotse ``MonoCut`` with exactly one supervision that covers it, and the cut's id is the supervision's id.
"""
from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Sequence

from asr.data.audio import read_sphere_by_libsndfile
from asr.files import atomic_write

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


@dataclass(frozen=True)
class Dropped:
    """An utterance that was left out. ``reason`` is a short sentence for the user; ``split`` is where it would have been."""

    id: str
    split: str
    reason: str


@dataclass(frozen=True)
class Transcript:
    """What an utterance says. ``duration`` in seconds; ``speaker`` is None where the corpus does not tell."""

    id: str
    text: str
    speaker: str | None
    duration: float


def write_cuts(path: Path, cuts: Iterable["MonoCut"]) -> None:
    """Gzipped JSON lines, whole or not at all; the same cuts give the same bytes. Storage paths below ``path`` become relative to it."""
    base = path.parent.resolve()
    with atomic_write(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        for cut in cuts:
            values = cut.to_dict()
            if "features" in values:
                stored = Path(values["features"]["storage_path"])
                if stored.is_absolute() and stored.is_relative_to(base):
                    values["features"]["storage_path"] = str(stored.relative_to(base))
            file.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")


def read_cuts(path: Path) -> list["MonoCut"]:
    """The cuts of a manifest, in its order. Raises ValueError where it is absent, damaged, or holds other things than such cuts."""
    import asr.data.archive  # noqa: F401  so that cuts can load their features

    read_sphere_by_libsndfile()
    return [parse_cut(values, path, number) for number, values in enumerate(json_lines(path), start=1)]


def read_transcripts(path: Path) -> list[Transcript]:
    """The same without lhotse, for those who want words and not audio."""
    return [
        Transcript(values["id"], supervision.get("text") or "", supervision.get("speaker"), values["duration"])
        for values in json_lines(path) for supervision in values["supervisions"]
    ]


def write_dropped(path: Path, dropped: Iterable[Dropped]) -> None:
    with atomic_write(path) as file:
        for item in sorted(dropped, key=lambda d: (d.split, d.id, d.reason)):
            file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")


def read_dropped(path: Path) -> list[Dropped]:
    with open(path, encoding="utf-8") as file:
        return [Dropped(**json.loads(line)) for line in file]


def summary(dropped: Sequence[Dropped], examples: int = 5) -> str:
    """Lines for the screen: how many were dropped for each reason, with the first few ids."""
    by_reason: dict[str, list[str]] = {}
    for item in dropped:
        by_reason.setdefault(_kind(item.reason), []).append(item.id)
    lines = []
    for reason, ids in sorted(by_reason.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        shown = ", ".join(ids[:examples]) + (f" and {len(ids) - examples} more" if len(ids) > examples else "")
        lines.append(f"  {len(ids):6d}  {reason}: {shown}")
    return "\n".join(lines)


def _kind(reason: str) -> str:
    """What reasons of one kind share: everything before the details, which follow a colon or stand in brackets."""
    return reason.partition(":")[0].partition(" (")[0]


def json_lines(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such manifest; run the stage that makes it first")
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove it and run the stage that makes it again") from None


def parse_cut(values: Any, path: Path, number: int) -> "MonoCut":
    from lhotse.serialization import deserialize_item

    try:
        cut: Any = deserialize_item(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}:{number}: not a lhotse cut ({error})") from None
    if type(cut).__name__ != "MonoCut" or len(cut.supervisions) != 1:
        raise ValueError(f"{path}:{number}: cut '{getattr(cut, 'id', '?')}' is not a single-channel cut with exactly one supervision")
    if cut.has_features and not Path(cut.features.storage_path).is_absolute():
        cut.features.storage_path = str(path.parent.resolve() / cut.features.storage_path)
    return cut
