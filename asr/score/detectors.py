"""What goes wrong in whole stretches: words that were left out one after the other, and phrases repeated that nobody repeated.

Both are signs of a model or a search in trouble rather than of a hard word: deletions of audio unlike the training data, loops of a
prediction network that follows itself.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from asr.score.errors import Scored, ScoredUtterance, mixed_units

STRETCH = 3
"""So many words deleted in a row make a stretch."""
REPEATS = 3
"""So many times in a row make a loop, where the reference has the phrase fewer times in a row."""
LONGEST_PHRASE = 8


@dataclass(frozen=True)
class Finding:
    """text: the words left out, or the phrase repeated; times: how many words, or how often in a row."""

    utterance: ScoredUtterance
    text: str
    times: int


def deleted_stretches(scored: Scored) -> list[Finding]:
    """The longest first."""
    found = []
    for utterance in scored.utterances:
        for deleted, pairs in groupby(utterance.alignment, key=lambda pair: pair[1] is None):
            words = [ref for ref, _ in pairs if ref is not None]
            if deleted and len(words) >= STRETCH:
                found.append(Finding(utterance, " ".join(words), len(words)))
    return sorted(found, key=lambda finding: -finding.times)


def repetitions(scored: Scored) -> list[Finding]:
    """The most often repeated first."""
    found = []
    for utterance in scored.utterances:
        reference = mixed_units(utterance.utterance.ref)
        for phrase, times in loops(mixed_units(utterance.utterance.hyp)):
            if times > _times_in_a_row(phrase, reference):
                found.append(Finding(utterance, " ".join(phrase), times))
    return sorted(found, key=lambda finding: -finding.times)


def loops(units: Sequence[str]) -> Iterator[tuple[tuple[str, ...], int]]:
    """(phrase, times) of what stands ``REPEATS`` times in a row or more; of phrases that overlap the shortest."""
    covered = [False] * len(units)
    for length in range(1, LONGEST_PHRASE + 1):
        start = 0
        while start + REPEATS * length <= len(units):
            times = _times_at(units[start : start + length], units, start)
            end = start + times * length
            if times >= REPEATS and not any(covered[start:end]):
                covered[start:end] = [True] * (end - start)
                yield tuple(units[start : start + length]), times
                start = end
            else:
                start += 1


def _times_at(phrase: Sequence[str], units: Sequence[str], start: int) -> int:
    """How many times in a row ``phrase`` stands at ``start``."""
    times, length = 0, len(phrase)
    while list(units[start + times * length : start + (times + 1) * length]) == list(phrase):
        times += 1
    return times


def _times_in_a_row(phrase: Sequence[str], units: Sequence[str]) -> int:
    return max((_times_at(phrase, units, start) for start in range(len(units))), default=0)
