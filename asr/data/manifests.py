"""Manifests: a split's cuts as JSON lines, and the list of what was dropped.

A cut here is a lhotse ``MonoCut`` with exactly one supervision that covers it, and the cut's id is the supervision's id.
"""
from __future__ import annotations

import gzip
import json
import logging
import tempfile
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Sequence

from asr.data.audio import read_sphere_by_libsndfile
from asr.files import atomic_write

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

log = logging.getLogger(__name__)


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
    """Gzipped JSON lines, as :func:`write_lines` does. Storage paths below ``path`` become relative to it."""
    base = path.parent.resolve()

    def lines() -> Iterator[Any]:
        for cut in cuts:
            values = cut.to_dict()
            if "features" in values:
                stored = Path(values["features"]["storage_path"])
                if stored.is_absolute() and stored.is_relative_to(base):
                    values["features"]["storage_path"] = str(stored.relative_to(base))
            yield values

    write_lines(path, lines())


def write_lines(path: Path, lines: Iterable[Any]) -> None:
    """Gzipped JSON lines, whole or not at all; the same ones give the same bytes."""
    with atomic_write(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        for values in lines:
            file.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")


def read_cuts(path: Path) -> list["MonoCut"]:
    """The cuts of a manifest, in its order. Raises ValueError where it is absent, damaged, or holds other things than such cuts."""
    return list(iterate_cuts(path))


def iterate_cuts(path: Path) -> Iterator["MonoCut"]:
    """The same, one after the other: what millions of cuts, at some 3 kB each in memory, are read by."""
    for number, values in enumerate(json_lines(path), start=1):
        yield parse_cut(values, path, number)


def read_transcripts(path: Path) -> list[Transcript]:
    """The same without lhotse, for those who want words and not audio."""
    return list(iterate_transcripts(path))


def iterate_transcripts(path: Path) -> Iterator[Transcript]:
    for values in json_lines(path):
        for supervision in values["supervisions"]:
            yield Transcript(values["id"], supervision.get("text") or "", supervision.get("speaker"), values["duration"])


class Lines:
    """The lines of a manifest by their number, parsed when asked for: an unpacked copy on disk, and 8 bytes of memory for each."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"{path}: no such manifest; run the stage that makes it first")
        self._starts = array("q")
        self._file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  closed, and so removed, with this object
        with gzip.open(path, "rb") as packed:
            for line in packed:
                self._starts.append(self._file.tell())
                self._file.write(line)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Any:
        self._file.seek(self._starts[number])
        return json.loads(self._file.readline())


def write_dropped(path: Path, dropped: Iterable[Dropped]) -> None:
    with atomic_write(path) as file:
        for item in sorted(dropped, key=lambda d: (d.split, d.id, d.reason)):
            file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")


def read_dropped(path: Path) -> list[Dropped]:
    with open(path, encoding="utf-8") as file:
        return [Dropped(**json.loads(line)) for line in file]


def write_selection(path: Path, kept: Sequence["MonoCut"], dropped: Sequence[Dropped]) -> None:
    """A manifest of what was kept, and ``<name>.dropped.jsonl`` beside it of the rest; tells how many. Raises ValueError where none was."""
    listed = path.with_name(f"{path.name.partition('.')[0]}.dropped.jsonl")
    write_dropped(listed, dropped)
    if dropped:
        log.warning("left out %d of %d utterances (%s):\n%s", len(dropped), len(dropped) + len(kept), listed, summary(dropped))
    if not kept:
        raise ValueError(f"{path}: no utterance is left; {listed} says why")
    write_cuts(path, kept)
    log.info("%s: %d utterances, %.2f hours", path, len(kept), sum(cut.duration for cut in kept) / 3600)


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
    """The cut of a line. path, number: where it stands, for messages and for the paths in it."""
    from lhotse.serialization import deserialize_item

    import asr.data.archive  # noqa: F401  so that cuts can load their features

    read_sphere_by_libsndfile()
    try:
        cut: Any = deserialize_item(values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}:{number}: not a lhotse cut ({error})") from None
    if type(cut).__name__ != "MonoCut" or len(cut.supervisions) != 1:
        raise ValueError(f"{path}:{number}: cut '{getattr(cut, 'id', '?')}' is not a single-channel cut with exactly one supervision")
    if cut.has_features and not Path(cut.features.storage_path).is_absolute():
        cut.features.storage_path = str(path.parent.resolve() / cut.features.storage_path)
    return cut
