"""The file between decoding and scoring: what one search made of one test set.

JSON lines, UTF-8. The first line is the :class:`Header`, each further line one :class:`Utterance`:

    {"search": "greedy", "split": "test", "settings": {}, "seconds": 3.1, "audio_seconds": 810.0,
     "checkpoint": "epoch 9-12", "complete": true, "scales": {}, "tuned_on": null}
    {"id": "s1-0001", "ref": "yes no", "hyp": "yes", "speaker": "s1", "duration": 1.4, "score": -2.5,
     "scores": {"model": -2.5}, "tokens": [4, 9], "words": [{"text": "yes", "start": 0.2, "end": 0.5, "confidence": 0.9}],
     "nbest": [{"hyp": "yes", "score": -2.5, "scores": {"model": -2.5}, "tokens": [4, 9]}, ...]}

``asr.decode`` writes it, ``asr.score`` reads it, and neither knows the other.

    write(path, Header(search="greedy", split="test", ...), utterances)
    header, utterances = read(path).header, read(path).utterances
"""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Iterable, Mapping

from asr.files import atomic_write
from asr.types import Word


@dataclass(frozen=True)
class Header:
    """How the hypotheses came about.

    search: name of the search (the file's stem); split: name of the decoded set.
    settings: the search's resolved config, JSON-able.
    seconds: wall-clock seconds that decoding took (encoder and search, without loading the model).
    audio_seconds: seconds of audio decoded in them; their quotient is the real-time factor.
    checkpoint: which weights, in words that let a reader find them again.
    complete: whether every utterance of the split is here; scoring refuses files that are not complete.
    scales: tuned values in effect, by dotted key of the settings; tuned_on: the split they were tuned on, None where none were.
    encoder_seconds: the part of ``seconds`` that the encoder took (shared by searches that were run together).
    fingerprint: of weights, settings and data; decoding again with the same one is not needed.
    """

    search: str
    split: str
    settings: Mapping[str, Any]
    seconds: float
    audio_seconds: float
    checkpoint: str
    complete: bool
    scales: Mapping[str, float] = field(default_factory=dict)
    tuned_on: str | None = None
    encoder_seconds: float = 0.0
    fingerprint: str = ""


@dataclass(frozen=True)
class Candidate:
    """A hypothesis of an n-best list: its words joined by spaces, its score, that by component, its tokens."""

    hyp: str
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Utterance:
    """One utterance: its reference, and the best hypothesis.

    ref, hyp: words joined by single spaces; either may be empty.
    speaker: None where the corpus does not say. duration: seconds.
    score: log-probability by which the search ranked it; scores: the same by component.
    tokens: token ids without blanks.
    nbest: where the search was asked for it, the n best hypotheses, the first of which is ``hyp``; else empty.
    """

    id: str
    ref: str
    hyp: str
    speaker: str | None = None
    duration: float = 0.0
    words: tuple[Word, ...] = ()
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    tokens: tuple[int, ...] = ()
    nbest: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Hypotheses:
    header: Header
    utterances: tuple[Utterance, ...]


def write(path: Path | str, header: Header, utterances: Iterable[Utterance]) -> None:
    """Writes the whole file or nothing, one line per utterance in the order given."""
    with atomic_write(path) as file:
        file.write(json.dumps(asdict(header), ensure_ascii=False) + "\n")
        file.writelines(json.dumps(asdict(utterance), ensure_ascii=False) + "\n" for utterance in utterances)


def read(path: Path | str) -> Hypotheses:
    """Raises ValueError naming the file and the line where it is not of this format, and for an id given twice."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file of hypotheses; decode the split first")
    header: Header | None = None
    utterances: dict[str, Utterance] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            if header is None:
                header = Header(**_record(Header, line, where))
                continue
            record = _record(Utterance, line, where)
            words = tuple(Word(**_fields(Word, word, where)) for word in record.get("words", ()))
            nbest = tuple(Candidate(**_fields(Candidate, candidate, where)) for candidate in record.get("nbest", ()))
            nbest = tuple(replace(candidate, tokens=tuple(candidate.tokens)) for candidate in nbest)
            utterance = Utterance(**{**record, "words": words, "tokens": tuple(record.get("tokens", ())), "nbest": nbest})
            if utterance.id in utterances:
                raise ValueError(f"{where}: utterance '{utterance.id}' occurs twice; decode the split again")
            utterances[utterance.id] = utterance
    if header is None:
        raise ValueError(f"{path}: empty; decode the split again")
    return Hypotheses(header, tuple(utterances.values()))


def _record(cls: Any, line: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg}); decode the split again") from None
    return _fields(cls, values, where)


def _fields(cls: Any, values: Any, where: str) -> dict[str, Any]:
    """``values`` as keyword arguments of the dataclass ``cls``, checked for missing and unknown keys."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected an object with the fields of {cls.__name__}")
    known = {f.name for f in fields(cls)}
    if unknown := values.keys() - known:
        raise ValueError(f"{where}: unknown field '{min(unknown)}' of {cls.__name__}; it has {', '.join(sorted(known))}")
    try:
        cls(**values)
    except TypeError as error:
        raise ValueError(f"{where}: {str(error).rpartition('__init__() ')[2]} ({cls.__name__})") from None
    return values
