"""What makes an utterance unusable: audio that cannot be decoded, no transcript, a repeated id, too short, too long.

Everything found is reported as :class:`Dropped`, by id and reason. A wrong sample rate is not a matter of single utterances
but of the corpus, so it is an error.
"""
from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Protocol, Sequence

from asr.data.manifests import Dropped
from asr.data.threads import map_files

if TYPE_CHECKING:
    from lhotse import Recording
    from lhotse.cut import MonoCut

Check = Callable[["MonoCut"], "str | None"]
"""The reason to drop a cut, or None."""

BLOCK = 1 << 20
UNKNOWN_SIZE = 0x7FFFF000
"""Programs that write WAV into a pipe put a huge data size into the header: from here on it says nothing."""


class Tokenizer(Protocol):
    """What this package needs of a tokenizer (see asr/tokens)."""

    def encode(self, text: str) -> list[int]: ...

    def unknown(self, text: str) -> list[str]: ...

    def __hash__(self) -> int: ...


def sift(cuts: Iterable["MonoCut"], split: str, check: Check, dropped: list[Dropped]) -> list["MonoCut"]:
    """The cuts that pass; the others are added to ``dropped``."""
    kept = []
    for cut in cuts:
        reason = check(cut)
        if reason is None:
            kept.append(cut)
        else:
            dropped.append(Dropped(cut.id, split, reason))
    return kept


def unique_ids() -> Check:
    """One id, one utterance, in the whole corpus: the first is kept."""
    seen: dict[str, str] = {}

    def check(cut: "MonoCut") -> str | None:
        where = f"'{cut.recording.id}' at {cut.start:g} s"
        first = seen.setdefault(cut.id, where)
        return None if first is where else f"duplicate id: {where}; kept {first}"

    return check


def has_text(cut: "MonoCut") -> str | None:
    return None if cut.supervisions[0].text else "empty transcript"


def unique_audio() -> Check:
    """One part of one recording, one utterance, in the whole corpus: the first is kept. Else test sets may hold what was trained on."""
    seen: dict[tuple[Any, ...], str] = {}

    def check(cut: "MonoCut") -> str | None:
        source = cut.recording.sources[0]
        first = seen.setdefault((source.type, str(source.source), cut.start, cut.duration, cut.channel), cut.id)
        return None if first == cut.id else f"duplicate audio: the same as '{first}'"

    return check


def without_characters(forbidden: str) -> Check:
    def check(cut: "MonoCut") -> str | None:
        text = cut.supervisions[0].text or ""
        found = sorted(set(forbidden) & set(text))
        return f"forbidden characters: {' '.join(found)} in '{text}'" if found else None

    return check


def rate_between(lowest: float | None, highest: float | None) -> Check:
    """Bounds in characters of the transcript per second of audio, both allowed; None for no bound."""
    def check(cut: "MonoCut") -> str | None:
        text = cut.supervisions[0].text or ""
        rate = len(text) / cut.duration
        if lowest is not None and rate < lowest:
            return f"too little text for its audio: {rate:.1f} characters/s, min_rate is {lowest:g}: '{text}'"
        if highest is not None and rate > highest:
            return f"too much text for its audio: {rate:.1f} characters/s, max_rate is {highest:g}: '{text}'"
        return None

    return check


def length_between(shortest: float, longest: float) -> Check:
    """Bounds in seconds, both allowed."""
    def check(cut: "MonoCut") -> str | None:
        if cut.duration <= 0:
            return "no audio: zero length"
        if cut.duration < shortest:
            return f"too short: {cut.duration:.3f} s, min_duration is {shortest:g}"
        if cut.duration > longest:
            return f"too long: {cut.duration:.3f} s, max_duration is {longest:g}"
        return None

    return check


def check_sample_rate(cuts: Iterable["MonoCut"], sample_rate: int) -> None:
    """Raises ValueError naming the first recording of another rate, and the fix."""
    wrong = [cut for cut in cuts if cut.sampling_rate != sample_rate]
    if wrong:
        first = wrong[0].recording
        raise ValueError(f"recording '{first.id}' has a sample rate of {first.sampling_rate} Hz instead of {sample_rate} Hz "
                         f"({len(wrong)} such utterances): set corpus.resample: true to convert them when they are read, "
                         f"or corpus.sample_rate and features.sample_rate to {first.sampling_rate}")


def readable(cuts: Sequence["MonoCut"], jobs: int) -> Check:
    """A check that every recording can be decoded from end to end and is as long as its header says. Decodes them all, in parallel."""
    recordings = {cut.recording.id: cut.recording for cut in cuts}
    by_id = dict(zip(recordings, map_files(audio_fault, recordings.values(), jobs, "reading audio")))
    return lambda cut: by_id[cut.recording.id]


def audio_fault(recording: "Recording") -> str | None:
    """What is wrong with a recording's audio, or None."""
    path = Path(str(recording.sources[0].source))
    if recording.num_samples == 0:
        return f"no audio: zero length: {path}"
    try:
        if recording.transforms or len(recording.sources) > 1 or recording.sources[0].type != "file":
            recording.load_audio()
            return None
        fault = wav_fault(path)
        return fault or _decode_fault(recording, path)
    except Exception as error:  # whatever a decoder raises, the file is unusable
        return f"unreadable audio: {path}: {type(error).__name__}"


def _decode_fault(recording: "Recording", path: Path) -> str | None:
    import numpy as np
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError:
        recording.load_audio()  # a format that lhotse reads by other means
        return None
    samples = 0
    with file:
        for block in file.blocks(blocksize=BLOCK, dtype="float32"):
            samples += len(block)
            if not np.isfinite(block).all():
                return f"unreadable audio: {path}: samples that are not numbers"
    if samples != recording.num_samples:
        return f"truncated audio: {path}: {samples} of {recording.num_samples} samples"
    return None


def wav_fault(path: Path) -> str | None:
    """Decoders take what there is of a truncated WAV file for the whole; its header knows better. None for other formats."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF" or len(file.read(4)) < 4 or file.read(4) != b"WAVE":
            return None
        while len(header := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                present = size - file.tell()
                if present < length < UNKNOWN_SIZE:
                    return f"truncated audio: {path}: {present} of {length} bytes"
                return None
            file.seek(length + length % 2, 1)
    return f"truncated audio: {path}: no samples"


def check_targets(
    cuts: Iterable["MonoCut"], split: str, feature_frames: Callable[["MonoCut"], int], tokenizer: Tokenizer,
    encoder_frames: Callable[[int], int],
) -> list[Dropped]:
    """Utterances that cannot be trained on: texts the tokenizer cannot represent, and more labels than encoder frames.

    feature_frames: how many a cut has. encoder_frames: how many frames the encoder makes of so many feature frames. An utterance
    needs one for each token and, so that CTC can tell them apart, one more between equal neighbours.
    """
    dropped: list[Dropped] = []

    def check(cut: "MonoCut") -> str | None:
        text = cut.supervisions[0].text or ""
        unknown = tokenizer.unknown(text)
        if unknown:
            return f"unknown characters: {' '.join(sorted(set(unknown)))} in '{text}'"
        tokens = tokenizer.encode(text)
        needed = len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:]))
        frames = encoder_frames(feature_frames(cut))
        if frames < max(needed, 1):
            return f"too short for its transcript: {frames} encoder frames, {needed} needed for '{text}'"
        return None

    sift(cuts, split, check, dropped)
    return dropped


def enforce_limit(total: Mapping[str, int], dropped: Sequence[Dropped], limit: float, listed: Any) -> None:
    """Raises ValueError where more than ``limit`` (a fraction) of a split was dropped. ``total``: utterances found, by split."""
    for split, count in total.items():
        lost = sum(item.split == split for item in dropped)
        if lost > limit * count:
            raise ValueError(f"{lost} of {count} utterances of '{split}' ({lost / count:.1%}) would be dropped, more than "
                             f"corpus.max_dropped ({limit:.1%}); {listed} lists them all with reasons. Repair them, or accept this with "
                             f"--set corpus.max_dropped={min(1.0, lost / count + 0.005):.2f}")
