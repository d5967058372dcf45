"""Small corpora on disk, made of sine sweeps."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.config import validate
from asr.data import CorpusConfig

WORDS = ("one", "two", "three", "four", "five")


def sweep(seconds: float, rate: int = 16000, start: float = 200.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (start + 400 * time) * time)).astype(np.float32)


def write_wav(path: Path, seconds: float, rate: int = 16000, start: float = 200.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sweep(seconds, rate, start), rate, subtype="PCM_16")


def table_corpus(directory: Path, utterances: int = 24, speakers: int = 6, rate: int = 16000) -> Path:
    """``transcripts.tsv`` and ``speakers.tsv`` as the numbers corpus has them; the last third is the split ``test``."""
    rows = ["id\taudio\ttext\tspeaker\tsplit"]
    for k in range(utterances):
        speaker = f"s{k * speakers // utterances}"
        write_wav(directory / f"wav/{speaker}/u{k:03d}.wav", 0.5 + 0.05 * ((7 * k) % 24), rate, start=150 + 10 * k)
        text = " ".join(WORDS[: 1 + k % 5])
        rows.append(f"u{k:03d}\twav/{speaker}/u{k:03d}.wav\t{text}\t{speaker}\t{'train' if 3 * k < 2 * utterances else 'test'}")
    (directory / "transcripts.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    ages = "".join(f"s{n}\t{'f' if n % 2 else 'm'}\t{10 + 5 * n}\ttrain\n" for n in range(speakers))
    (directory / "speakers.tsv").write_text("speaker\tgender\tage\tsplit\n" + ages, encoding="utf-8")
    return directory


def corpus_config(**values: Any) -> CorpusConfig:
    return validate(CorpusConfig, {"source": {"type": "table"}, "splits": {"train": "train", "test": "test"}, **values}, "test")


class Letters:
    """A tokenizer of lower-case letters and the space."""

    symbols = ["<blk>", " ", *"abcdefghijklmnopqrstuvwxyz"]
    vocab_size = len(symbols)

    def encode(self, text: str) -> list[int]:
        return [self.symbols.index(character) for character in text if character in self.symbols]

    def unknown(self, text: str) -> list[str]:
        return [character for character in text if character not in self.symbols]
