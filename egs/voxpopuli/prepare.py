"""One language of VoxPopuli, from the recordings of the sessions and the table of its transcribed stretches.

lhotse's recipe reads another download, the channels of the interpreters, and fetches the table while it does.
"""
from __future__ import annotations

import csv
import gzip
from ast import literal_eval
from pathlib import Path

from lhotse import CutSet, Recording, SupervisionSegment
from lhotse.cut import MonoCut

SPLITS = ("train", "dev", "test")


def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    """corpus_dir: <root>/transcribed_data/<language>, with asr_<language>.tsv.gz in it; audio is <root>/raw_audios/original/<year>/."""
    language = corpus_dir.name
    with gzip.open(corpus_dir / f"asr_{language}.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="|") if row["split"] in SPLITS]
    recordings = {id: _recording(corpus_dir.parents[1], id) for id in sorted({row["session_id"] for row in rows})}
    paths = {split: out / f"{split}.jsonl.gz" for split in SPLITS}
    for split, path in paths.items():
        CutSet.from_cuts(_cut(row, recordings[row["session_id"]], language) for row in rows if row["split"] == split).to_file(path)
    return paths


def _recording(root: Path, session: str) -> Recording:
    path = root / "raw_audios" / "original" / session[:4] / f"{session}_original.ogg"
    if not path.is_file():
        raise ValueError(f"{path}: no such recording; the table of transcripts names it, so the download is not whole")
    return Recording.from_file(path, recording_id=session)


def _cut(row: dict[str, str], recording: Recording, language: str) -> MonoCut:
    """From the first stretch with a voice to the end of the last; the publisher's own tool leaves out the pauses between them, too."""
    voiced = literal_eval(row["vad"])
    id, start = f"{row['session_id']}-{row['id_']}", float(voiced[0][0])
    duration = min(float(voiced[-1][1]), recording.duration) - start
    speaker, gender = (row[name] if row[name] not in ("", "None") else None for name in ("speaker_id", "gender"))
    said = SupervisionSegment(id, recording.id, 0.0, duration, text=row["normed_text"], language=language, speaker=speaker, gender=gender)
    return MonoCut(id, start, duration, channel=0, recording=recording, supervisions=[said])
