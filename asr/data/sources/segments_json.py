"""Corpora of long recordings that come with one JSON file of all recordings and their segments, as GigaSpeech and WenetSpeech do."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Literal, Sequence

from asr.config import Config as BaseConfig
from asr.data.sources.base import SourceSplit, chosen_splits, collect, read_headers, read_text

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

AUDIOS = re.compile(r'"audios"\s*:\s*\[\s*')
NEXT = re.compile(r"[^\s,]")
UNKNOWN_SPEAKER = "N/A"


class SegmentsJson:
    class Config(BaseConfig):
        """file: with a list ``audios`` of recordings, each with ``aid``, ``path`` (relative to the corpus) and ``segments``; these have
            ``sid``, ``begin_time``, ``end_time`` (seconds), a transcript, and ``subsets``: the splits that it is in, often several.
            ``speaker`` and ``confidence`` are kept where there are any; without a speaker, the recording counts as one.
        text: the key of the transcript.
        """

        type: Literal["segments_json"] = "segments_json"
        file: str
        text: str = "text"

    def __init__(self, config: "SegmentsJson.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        path = corpus_dir / self.config.file
        audio: dict[str, Path] = {}
        found: dict[str, list["SupervisionSegment"]] = {}
        for number, recording in enumerate(recordings(path), start=1):
            try:
                for segment in recording["segments"]:
                    for split in (name.strip("{}") for name in segment["subsets"]):  # GigaSpeech writes {XL}
                        known = found.setdefault(split, [])
                        if splits is None or split in splits:
                            known.append(self._supervision(recording["aid"], segment))
                            audio[recording["aid"]] = corpus_dir / recording["path"]
            except (KeyError, TypeError) as error:
                raise ValueError(f"{path}: recording {number} of 'audios' is not as it should be ({type(error).__name__}: {error}); "
                                 "see corpus.source in docs/data.md") from error
        headers = read_headers(audio)
        return {name: collect(name, headers.recordings, found[name], headers.errors) for name in chosen_splits(found, splits, str(path))}

    def _supervision(self, recording: str, segment: dict[str, Any]) -> "SupervisionSegment":
        from lhotse import SupervisionSegment

        start, end = segment["begin_time"], segment["end_time"]
        speaker = segment.get("speaker", UNKNOWN_SPEAKER)
        return SupervisionSegment(
            id=segment["sid"], recording_id=recording, start=start, duration=round(end - start, 6), text=segment[self.config.text],
            speaker=recording if speaker == UNKNOWN_SPEAKER else speaker,
            custom={"confidence": segment["confidence"]} if "confidence" in segment else None,
        )


def recordings(path: Path) -> Iterator[dict[str, Any]]:
    """What the list ``audios`` holds, one after the other: ten thousand hours of it at once would take ten gigabytes of memory."""
    text = read_text(path, "utf-8")
    begin = AUDIOS.search(text)
    if begin is None:
        raise ValueError(f"{path}: no list 'audios' in it; correct corpus.source.file")
    decode, place = json.JSONDecoder().raw_decode, begin.end()
    while not text.startswith("]", place):
        try:
            recording, place = decode(text, place)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON, or not all of it: {error}") from None
        yield recording
        following = NEXT.search(text, place)
        place = following.start() if following else len(text)
