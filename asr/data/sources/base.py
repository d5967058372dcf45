"""What every source gives, and what several share: cuts of whole recordings and of parts of them.

A source is a class with a ``Config`` and ``read(corpus_dir, splits, work_dir) -> {split: SourceSplit}``. It leaves the
checking of audio and text to asr/data/checks.py, but lists as dropped what it cannot even make a cut of.
"""
from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Protocol, Sequence

from asr.data.manifests import Dropped
from asr.data.threads import map_files

if TYPE_CHECKING:
    from lhotse import Recording, SupervisionSegment
    from lhotse.cut import MonoCut

HEADER_JOBS = 4
"""Headers are read from, not computed on: more threads than cores hide the disk."""

OVERHANG = 0.1
"""Seconds by which a transcript may end after its recording: rounding; anything more is an error in the corpus."""

BYTE_ORDER_MARK = "\ufeff"


@dataclass
class SourceSplit:
    """One of the corpus's own splits, as found: transcripts not normalised, audio not opened beyond its header."""

    cuts: list["MonoCut"] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


class Source(Protocol):
    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        """The named splits, or all. Raises ValueError, with the names there are, for one the corpus does not have.

        work_dir: a directory where the source may keep files that the cuts refer to.
        """
        ...


@dataclass(frozen=True)
class Headers:
    """What the headers of audio files say, and why the others could not be read, both by recording id."""

    recordings: dict[str, "Recording"]
    errors: dict[str, str]


def read_headers(paths: Mapping[str, Path]) -> Headers:
    """Opens every file far enough to know its length, rate and channels."""
    def read(item: tuple[str, Path]) -> tuple[str, Any]:
        from lhotse import Recording

        id, path = item
        try:
            return id, Recording.from_file(path, recording_id=id)
        except Exception as error:  # whatever a decoder raises, the file is unusable
            return id, _reason(path, error)

    results = map_files(read, paths.items(), HEADER_JOBS, "audio headers")
    return Headers(
        {id: result for id, result in results if not isinstance(result, str)},
        {id: result for id, result in results if isinstance(result, str)},
    )


def _reason(path: Path, error: Exception) -> str:
    if not path.exists():
        return f"no such audio file: {path}"
    if path.stat().st_size == 0:
        return f"empty audio file: {path}"
    return f"unreadable audio: {path}: {type(error).__name__}"


def cut_of(recording: "Recording", supervision: "SupervisionSegment") -> "MonoCut | str":
    """The part of the recording that the supervision covers, under the supervision's id; or what makes that impossible."""
    from lhotse.cut import MonoCut
    from lhotse.utils import fastcopy

    channel = supervision.channel[0] if isinstance(supervision.channel, list) else supervision.channel
    if channel not in recording.channel_ids:
        return f"channel {channel} is not in its recording '{recording.id}'"
    if supervision.start < 0 or supervision.end > recording.duration + OVERHANG:
        return (f"outside its recording (from {supervision.start:g} to {supervision.end:g} s of "
                f"'{recording.id}', which lasts {recording.duration:g} s)")
    duration = min(supervision.duration, round(recording.duration - supervision.start, 8))
    return MonoCut(
        id=supervision.id, start=supervision.start, duration=duration, channel=channel, recording=recording,
        supervisions=[fastcopy(supervision, start=0.0, duration=duration, channel=channel)],
    )


def collect(
    split: str, recordings: Mapping[str, "Recording"], supervisions: Iterable["SupervisionSegment"], errors: Mapping[str, str]
) -> SourceSplit:
    """Cuts of every supervision. ``errors``: why a recording that is not among ``recordings`` could not be read."""
    found = SourceSplit()
    for supervision in supervisions:
        recording = recordings.get(supervision.recording_id)
        if recording is None:
            reason: Any = errors.get(supervision.recording_id, f"no recording '{supervision.recording_id}'")
        else:
            reason = cut_of(recording, supervision)
        if isinstance(reason, str):
            found.dropped.append(Dropped(supervision.id, split, reason))
        else:
            found.cuts.append(reason)
    return found


def chosen_splits(found: Iterable[str], wanted: Sequence[str] | None, where: str) -> list[str]:
    """``wanted``, or all that were found. Raises ValueError, with the names there are, where one of them was not."""
    available = list(found)
    if wanted is None:
        return available
    for name in wanted:
        if name not in available:
            known = ", ".join(sorted(available)) or "none"
            raise ValueError(f"{where} has no split '{name}'; it has {known}: correct 'from' in corpus.splits")
    return list(wanted)


def read_text(path: Path, encoding: str) -> str:
    """The decoded file. Raises ValueError with the number of lines that are not of this encoding, and the first of them."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; make the corpus first (stage 0), or correct --corpus-dir") from None
    try:
        return content.decode(encoding).removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not {encoding.upper()}: {_undecodable(content, encoding)}") from None
    except LookupError:
        raise ValueError(f"{path}: Python knows no encoding '{encoding}'") from None


def _undecodable(content: bytes, encoding: str) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "its first two bytes mark UTF-16; if so, set the encoding to utf-16"
    lines = content.split(b"\n")
    wrong = [number for number, line in enumerate(lines, 1) if not _decodes(line, encoding)]
    shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
    first = (lines[wrong[0] - 1] if wrong else content).strip()[:80]
    return (f"{len(wrong)} of {len(lines)} lines are not (line {shown}): the first is {first.decode(encoding, 'backslashreplace')!r}, "
            f"which would read {first.decode('cp1252', 'replace')!r} in cp1252; repair the file, or set the encoding that it is in")


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def number_or_text(value: str) -> Any:
    """Tables hold text only: what looks like a number becomes one, so that conditions can compare it."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value
