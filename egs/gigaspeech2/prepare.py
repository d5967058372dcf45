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
        texts = {id: text for id, tab, text in (line.partition("\t") for line in lines) if tab}
        audio = {id: corpus_dir.joinpath(folder, *id.split("-")[:-1], f"{id}.wav") for id in texts}
        headers = read_headers(audio)
        if headers.errors:
            first, reason = next(iter(headers.errors.items()))
            logging.warning("%s: %d of %d segments are left out: '%s': %s", split, len(headers.errors), len(texts), first, reason)
        paths[split] = out / f"{split}.jsonl.gz"
        cuts = (cut(recording, folder, texts[id], corpus_dir.name) for id, recording in headers.recordings.items())
        CutSet.from_cuts(cuts).to_file(paths[split])
    return paths


def cut(recording: Recording, folder: str, text: str, language: str) -> MonoCut:
    """Under an id of the whole corpus: the sets count from 0 each. Who speaks in a video is one speaker."""
    id = f"{folder}-{recording.id}"
    supervision = SupervisionSegment(id, recording.id, 0.0, recording.duration, text=text, speaker=id.rpartition("-")[0], language=language)
    return MonoCut(id, 0.0, recording.duration, 0, recording=recording, supervisions=[supervision])
