"""Scales chosen on the development set, and kept for the test sets.

``exp/<name>/decode/tuned.json`` holds, by search, the values chosen, what they were chosen on, and what every grid point gave.
Test sets are decoded with those values only, so the choice cannot see them.
"""
from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterable, Mapping

import kaldialign

from asr.files import atomic_write
from asr.types import split_language

Values = dict[str, float]


@dataclass(frozen=True)
class Errors:
    """Word errors against so many reference words, in so many utterances."""

    errors: int = 0
    words: int = 0

    @property
    def wer(self) -> float:
        """Percent; 0 where there was nothing to recognise and nothing was recognised."""
        return 100.0 * self.errors / max(self.words, 1)

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(self.errors + other.errors, self.words + other.words)


def word_errors(pairs: Iterable[tuple[str, str]]) -> Errors:
    """Of (reference, hypothesis) texts, by edit distance over words; tags of languages are none."""
    total = Errors()
    for reference, hypothesis in pairs:
        ref, hyp = (split_language(text)[1].split() for text in (reference, hypothesis))
        total += Errors(kaldialign.edit_distance(ref, hyp)["total"], len(ref))
    return total


@dataclass(frozen=True)
class GridPoint:
    values: Values
    errors: int
    words: int
    wer: float


@dataclass(frozen=True)
class Tuned:
    """values: by dotted key of the search's config. split: what they were chosen on. cuts: fingerprint of its cuts.
    basis: fingerprint of weights, settings (grid included) and language files; values hold for this basis only."""

    values: Values
    split: str
    cuts: str
    basis: str
    grid: list[GridPoint] = field(default_factory=list)


def grid(tune: Mapping[str, list[float]]) -> list[Values]:
    """Every combination of the values to try, in the order given."""
    return [dict(zip(tune, values)) for values in itertools.product(*tune.values())]


def best(points: list[GridPoint]) -> GridPoint:
    """The point of fewest errors; of several the first."""
    return min(points, key=lambda point: point.errors)


def read_tuned(path: Path) -> dict[str, Tuned]:
    """By search; empty where nothing was tuned yet."""
    if not path.exists():
        return {}
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Tuned(**{**entry, "grid": [GridPoint(**point) for point in entry["grid"]]}) for name, entry in entries.items()
        }
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: damaged ({error}); remove it and tune again") from None


def write_tuned(path: Path, tuned: Mapping[str, Tuned]) -> None:
    with atomic_write(path) as file:
        json.dump({name: asdict(entry) for name, entry in tuned.items()}, file, indent=1)
