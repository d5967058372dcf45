"""AN4: ``etc/an4_<split>.fileids`` lists the recordings, ``etc/an4_<split>.transcription`` what they say, as ``<s> YES </s> (id)``."""
from __future__ import annotations

import re
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

LINE = re.compile(r"(?:<s>)?(.*?)(?:</s>)?\s*\((\S+)\)\s*")


def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    paths = {}
    for split in ("train", "test"):
        listed = (corpus_dir / f"etc/an4_{split}.fileids").read_text().split()
        lines = (corpus_dir / f"etc/an4_{split}.transcription").read_text().splitlines()
        said = {found[2]: found[1].strip() for line in lines if (found := LINE.fullmatch(line))}
        paths[split] = out / f"{split}.jsonl.gz"
        CutSet.from_cuts([cut(corpus_dir / f"wav/{name}.sph", said) for name in listed]).to_file(paths[split])
    return paths


def cut(path: Path, said: dict[str, str]) -> MonoCut:
    recording = Recording.from_file(path)
    words = re.sub(r"\(\d+\)", "", said.get(recording.id, ""))  # ZERO(2) is a pronunciation
    text = SupervisionSegment(recording.id, recording.id, 0.0, recording.duration, text=words, speaker=path.parent.name, language="English")
    return MonoCut(recording.id, 0.0, recording.duration, 0, supervisions=[text], recording=recording)
