"""Kaldi data directories: wav.scp, text, utt2spk, optional segments, and any utt2* or spk2* table."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Sequence

from asr.config import Config as BaseConfig
from asr.data.manifests import Dropped
from asr.data.sources.base import SourceSplit, chosen_splits, collect, number_or_text, read_headers

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

OWN_TABLES = {"utt2spk", "utt2lang", "spk2utt", "spk2gender", "utt2dur", "utt2num_frames"}
"""Tables that lhotse reads itself, or that follow from others."""


class Kaldi:
    class Config(BaseConfig):
        """Each directory below the corpus that has a wav.scp is a split, named by its path (``train``, ``data/train``).

        Audio paths may be absolute, or relative to the corpus or to the data directory. Pipes are refused.
        """

        type: Literal["kaldi"] = "kaldi"

    def __init__(self, config: "Kaldi.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        found = sorted(str(path.parent.relative_to(corpus_dir)) for path in corpus_dir.rglob("wav.scp"))
        return {name: read_split(corpus_dir, name) for name in chosen_splits(found, splits, f"{corpus_dir} (Kaldi data directories)")}


def read_split(corpus_dir: Path, split: str) -> SourceSplit:
    """lhotse's import, of a copy of the directory whose wav.scp holds absolute paths to readable files only."""
    directory = corpus_dir / split
    dropped: list[Dropped] = []
    wavs = _table(directory / "wav.scp", split, dropped)
    headers = read_headers({id: _audio(value, corpus_dir, directory, id) for id, value in wavs.items()})
    with tempfile.TemporaryDirectory() as copy:
        _copy(directory, Path(copy), split, dropped, headers.recordings, headers.errors)
        supervisions = _supervisions(Path(copy), headers.recordings)
    _add_custom(directory, supervisions)
    collected = collect(split, headers.recordings, supervisions, headers.errors)
    return SourceSplit(collected.cuts, dropped + collected.dropped)


def _copy(directory: Path, copy: Path, split: str, dropped: list[Dropped], recordings: dict[str, Any], errors: dict[str, str]) -> None:
    """The tables that lhotse reads, without repeated ids and without what refers to unreadable recordings or lacks a text."""
    segmented = (directory / "segments").is_file()
    texts = _table(directory / "text", split, [])
    segments = _table(directory / "segments", split, dropped) if segmented else {}
    speakers = _table(directory / "utt2spk", split, [] if segmented else dropped)
    usable: list[str] = []
    for id in segments if segmented else speakers:
        recording = segments[id].split()[0] if segmented else id
        if recording not in recordings:
            dropped.append(Dropped(id, split, errors.get(recording, f"not in wav.scp: '{recording}'")))
        elif id not in texts:
            dropped.append(Dropped(id, split, "no transcript: not in the file 'text'"))
        elif id not in speakers:
            dropped.append(Dropped(id, split, "no speaker: not in the file 'utt2spk'"))
        else:
            usable.append(id)
    used = {segments[id].split()[0] for id in usable} if segmented else set(usable)
    sources = {id: recordings[id].sources[0].source for id in recordings if id in used}
    tables = {
        "wav.scp": sources, "reco2dur": {id: repr(recordings[id].duration) for id in sources},
        "text": {id: texts[id] for id in usable}, "utt2spk": {id: speakers[id] for id in usable},
    }
    if segmented:
        tables["segments"] = {id: segments[id] for id in usable}
    for name in ("spk2gender", "utt2lang"):
        if (directory / name).is_file():
            tables[name] = _table(directory / name, split, [])
    for name, rows in tables.items():
        (copy / name).write_text("".join(f"{key} {value}\n" for key, value in rows.items()), encoding="utf-8")


def _supervisions(copy: Path, recordings: dict[str, Any]) -> list["SupervisionSegment"]:
    from lhotse.kaldi import load_kaldi_data_dir

    if not recordings or not (copy / "utt2spk").read_text(encoding="utf-8"):
        return []
    rate = next(iter(recordings.values())).sampling_rate  # of no consequence: only the supervisions are taken
    supervisions: Any = load_kaldi_data_dir(copy, sampling_rate=rate)[1]
    return list(supervisions)


def _add_custom(directory: Path, supervisions: list["SupervisionSegment"]) -> None:
    """``spk2age`` becomes the field ``age`` of every utterance of the speaker, and ``utt2xyz`` the field ``xyz``."""
    for path in sorted((*directory.glob("spk2*"), *directory.glob("utt2*"))):
        if path.name in OWN_TABLES:
            continue
        values = _table(path, "", [])
        for supervision in supervisions:
            key = supervision.speaker if path.name.startswith("spk2") else supervision.id
            if key in values:
                supervision.custom = {**(supervision.custom or {}), path.name[4:]: number_or_text(values[key])}


def _table(path: Path, split: str, dropped: list[Dropped]) -> dict[str, str]:
    """Key and the rest of the line, by key; the second of two lines with one key is dropped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: missing; a Kaldi data directory needs wav.scp, text and utt2spk") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from None
    rows: dict[str, str] = {}
    for line in lines:
        key, *rest = line.split(maxsplit=1) or [""]
        if not key:
            continue
        if key in rows:
            dropped.append(Dropped(key, split, f"duplicate id: occurs twice in {path.name}; the first was kept"))
            continue
        rows[key] = rest[0].strip() if rest else ""
    return rows


def _audio(value: str, corpus_dir: Path, directory: Path, id: str) -> Path:
    if value.endswith("|"):
        raise ValueError(f"{directory / 'wav.scp'}: '{id}' is a command, and commands from data are not run; "
                         "convert it to an audio file first")
    path = Path(value)
    if path.is_absolute():
        return path
    return next((base / path for base in (corpus_dir, directory) if (base / path).exists()), corpus_dir / path)
