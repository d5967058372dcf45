"""Which results of decoding are good enough to train on: rules against what recognisers make up."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from asr.hypotheses import Utterance
from asr.score.errors import align, count

LONGEST_PHRASE = 8
"""Words of a phrase whose repetition is looked for."""


@dataclass(frozen=True)
class Rules:
    """What a result must fulfil.

    min_confidence: geometric mean of the words' confidences.
    max_disagreement: character errors between the results of two searches, per character of the longer.
    max_change: the same between the result and the transcript that the utterance has, where it has one.
    min_rate, max_rate: characters per second.
    max_repeats: times that a phrase may stand in a row.
    """

    min_confidence: float = 0.7
    max_disagreement: float = 0.1
    max_change: float = math.inf
    min_rate: float = 1.0
    max_rate: float = 30.0
    max_repeats: int = 4


def confidence(result: Utterance) -> float:
    """1 for a result without words, or of a search that knows no confidences."""
    known = [max(word.confidence, 1e-6) for word in result.words if word.confidence is not None]
    return math.exp(sum(map(math.log, known)) / len(known)) if known else 1.0


def disagreement(one: str, other: str) -> float:
    a, b = one.replace(" ", ""), other.replace(" ", "")
    return count(align(list(a), list(b))).errors / max(len(a), len(b), 1)


def repeats(words: Sequence[str]) -> int:
    """How often the phrase that is most often repeated stands in a row, whatever its length; 1 where none is."""
    most = 1
    for length in range(1, LONGEST_PHRASE + 1):
        run = 0  # words in a row that equal the one a phrase before
        for here, before in zip(words[length:], words):
            run = run + 1 if here == before else 0
            most = max(most, 1 + run // length)
    return most


def fault(result: Utterance, other: Utterance, rules: Rules) -> str | None:
    """Why not to train on a result, or None. other: what another search made of the same utterance."""
    rate = len(result.hyp) / result.duration
    if not result.hyp:
        return "nothing recognised"
    if (found := repeats(result.hyp.split())) > rules.max_repeats:
        return f"repetition: {found} times in a row: '{result.hyp}'"
    if not rules.min_rate <= rate <= rules.max_rate:
        return f"unusual rate: {rate:.1f} characters/s: '{result.hyp}'"
    if (found_confidence := confidence(result)) < rules.min_confidence:
        return f"low confidence: {found_confidence:.3f}: '{result.hyp}'"
    if (differing := disagreement(result.hyp, other.hyp)) > rules.max_disagreement:
        return f"searches disagree: {differing:.3f}: '{result.hyp}', '{other.hyp}'"
    if result.ref and (change := disagreement(result.hyp, result.ref)) > rules.max_change:
        return f"not what the transcript says: {change:.3f}: '{result.hyp}', '{result.ref}'"
    return None
