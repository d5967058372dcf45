"""The same little corpus in every layout that `asr new-recipe` knows."""
from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.data.corpora import write_wav

WORDS = ("moja", "mbili", "tatu", "nne", "tano", "sita", "saba", "nane", "tisa", "kumi")


@dataclass(frozen=True)
class Row:
    id: str
    text: str
    speaker: str
    split: str
    seconds: float = 1.0

    @property
    def audio(self) -> str:
        return f"{self.id}.wav"


def rows(utterances: int = 24, speakers: int = 8) -> list[Row]:
    """Each text is another one; speakers s0, s1 ... one after the other; all in the split train."""
    return [
        Row(f"u{k:02d}", f"{WORDS[k % 10]} {WORDS[k // 10]} {WORDS[(3 * k + 1) % 10]}", f"s{k * speakers // utterances}", "train")
        for k in range(utterances)
    ]


def in_splits(rows: Sequence[Row], **sizes: int) -> list[Row]:
    """The first rows in the first split, and so on."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    return [replace(row, split=name) for row, name in zip(rows, names)]


def write_audio(directory: Path, rows: Sequence[Row], folder: str = "wav/{speaker}") -> dict[str, str]:
    """WAV files; their paths relative to the directory by id."""
    paths = {row.id: f"{folder.format(**vars(row))}/{row.audio}" for row in rows}
    for number, row in enumerate(rows):
        write_wav(directory / paths[row.id], row.seconds, start=150 + 10 * number)
    return paths


def write_csv(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


def write_tsv(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(line) + "\n" for line in (header, *lines)), encoding="utf-8")


def table(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows)
    write_tsv(directory / "list.tsv", ("id", "audio", "text", "speaker", "split"),
              [(row.id, paths[row.id], row.text, row.speaker, row.split) for row in rows])


def csv_of_other_columns(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows)
    write_csv(directory / "list.csv", ("path", "sentence", "spk_id", "subset", "note"),
              [(paths[row.id], row.text, row.speaker, row.split, 'a "note", with a comma') for row in rows])


def semicolons(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows)
    lines = [f"{paths[row.id]};{row.text};{row.speaker};{row.split}" for row in rows]
    (directory / "list.csv").write_text("\n".join(["\ufeffaudio;transcript;speaker;split", *lines, ""]), encoding="utf-8")


def json_lines(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows)
    with open(directory / "manifest.json", "w", encoding="utf-8") as file:
        for row in rows:
            values = {"audio_filepath": paths[row.id], "text": row.text, "speaker": row.speaker, "split": row.split, "words": [1, 2]}
            file.write(json.dumps(values) + "\n")


def common_voice(directory: Path, rows: Sequence[Row]) -> None:
    write_audio(directory, rows, "clips")
    for split in sorted({row.split for row in rows}):
        write_tsv(directory / f"{split}.tsv", ("client_id", "path", "sentence", "up_votes", "gender", "locale"),
                  [(row.speaker, row.audio, row.text, "2", "", "sw") for row in rows if row.split == split])
    write_tsv(directory / "validated.tsv", ("client_id", "path", "sentence", "up_votes", "gender", "locale"),
              [(row.speaker, row.audio, row.text, "2", "", "sw") for row in rows])


def audio_folder(directory: Path, rows: Sequence[Row]) -> None:
    """As Hugging Face's datasets have it: a metadata.csv in each split's folder, paths relative to it."""
    write_audio(directory, rows, "{split}/audio")
    for split in sorted({row.split for row in rows}):
        write_csv(directory / split / "metadata.csv", ("file_name", "transcription", "speaker_id"),
                  [(f"audio/{row.audio}", row.text, row.speaker) for row in rows if row.split == split])


def kaldi(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows)
    for split in sorted({row.split for row in rows}):
        data = directory / "data" / split
        data.mkdir(parents=True)
        own = [row for row in rows if row.split == split]
        (data / "wav.scp").write_text("".join(f"{row.id} {paths[row.id]}\n" for row in own))
        (data / "text").write_text("".join(f"{row.id} {row.text}\n" for row in own))
        (data / "utt2spk").write_text("".join(f"{row.id} {row.speaker}\n" for row in own))


def sidecars(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows, "{split}/{speaker}")
    for row in rows:
        (directory / paths[row.id]).with_suffix(".lab").write_text(f"{row.text}\n", encoding="utf-8")


def librispeech(directory: Path, rows: Sequence[Row]) -> None:
    paths = write_audio(directory, rows, "{split}/{speaker}/chapter")
    for row in rows:
        with open((directory / paths[row.id]).parent / f"{row.speaker}.trans.txt", "a", encoding="utf-8") as file:
            file.write(f"{row.id} {row.text}\n")


def one_file_of_lines(directory: Path, rows: Sequence[Row]) -> None:
    write_audio(directory, rows, "audio/{split}/{speaker}")
    (directory / "doc").mkdir()
    (directory / "doc" / "text.txt").write_text("".join(f"{row.id}:{row.text}\n" for row in rows), encoding="utf-8")
    (directory / "README.md").write_text("u00: nothing but a readme\n")


def lj_speech(directory: Path, rows: Sequence[Row]) -> None:
    """No header, three fields, of which the last is the normalised text."""
    write_audio(directory, rows, "wavs/{split}/{speaker}")
    (directory / "metadata.csv").write_text("".join(f"{row.id}|{row.text.upper()}|{row.text}\n" for row in rows), encoding="utf-8")


LAYOUTS = (table, csv_of_other_columns, semicolons, json_lines, common_voice, audio_folder, kaldi, sidecars, librispeech, one_file_of_lines,
           lj_speech)
