"""One language of GigaSpeech 2: lines of segment id and text in ``train_raw.tsv`` and so on, the audio in ``train/0/685/0-685-25.wav``.

lhotse's recipe gives ids that dev and test share with train, and opens file by file. Segments whose archives are not here are left out.
"""
from __future__ import annotations

import logging
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from asr.data.sources.base import read_headers, read_text

AUDIO = {"train_raw": "train", "train_refined": "train", "dev": "dev", "test": "test"}


def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    paths = {}
    for split, folder in AUDIO.items():
        lines = read_text(corpus_dir / f"{split}.tsv", "utf-8").split("\n")
        texts = {f"{folder}-{id}": text for id, tab, text in (line.partition("\t") for line in lines) if tab}
        audio = {id: audio_path(corpus_dir, id) for id in texts}
        headers = read_headers(audio)
        if headers.errors:
            first, reason = next(iter(headers.errors.items()))
            logging.warning("%s: %d of %d segments are left out: '%s': %s", split, len(headers.errors), len(texts), first, reason)
        paths[split] = out / f"{split}.jsonl.gz"
        cuts = (cut(recording, texts[id], corpus_dir.name) for id, recording in headers.recordings.items())
        CutSet.from_cuts(cuts).to_file(paths[split])
    return paths


def audio_path(corpus_dir: Path, id: str) -> Path:
    """Ids begin with the folder, since each of them counts from 0."""
    folder, _, segment = id.partition("-")
    return corpus_dir.joinpath(folder, *segment.split("-")[:-1], f"{segment}.wav")


def cut(recording: Recording, text: str, language: str) -> MonoCut:
    """Who speaks in a video counts as one speaker."""
    id = recording.id
    supervision = SupervisionSegment(id, id, 0.0, recording.duration, text=text, speaker=id.rpartition("-")[0], language=language)
    return MonoCut(id, 0.0, recording.duration, 0, recording=recording, supervisions=[supervision])
