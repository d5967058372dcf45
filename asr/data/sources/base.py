"""What every source gives, and what several share: cuts of whole recordings and of parts of them.

A source is a class with a ``Config`` and ``read(corpus_dir, splits, work_dir) -> {split: SourceSplit}``. It leaves the
checking of audio and text to asr/data/checks.py, but lists as dropped what it cannot even make a cut of.
"""
from __future__ import annotations

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


@dataclass
class SourceSplit:
    """One of the corpus's own splits, as found: transcripts not normalised, audio not opened beyond its header."""

    cuts: list["MonoCut"] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)


class Source(Protocol):
    def read(self, corpus_dir: Path, splits: Sequence[str], work_dir: Path) -> dict[str, SourceSplit]:
        """The named splits. Raises ValueError, with the names there are, for one the corpus does not have.

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


def chosen_splits(found: Iterable[str], wanted: Sequence[str], where: str) -> list[str]:
    available = list(found)
    for name in wanted:
        if name not in available:
            known = ", ".join(sorted(available)) or "none"
            raise ValueError(f"{where} has no split '{name}'; it has {known}: correct 'from' in corpus.splits")
    return list(wanted)


def number_or_text(value: str) -> Any:
    """Tables hold text only: what looks like a number becomes one, so that conditions can compare it."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value
