"""The matched-pairs sentence-segment word error test: L. Gillick and S. Cox, "Some statistical issues in the comparison of speech
recognition algorithms", ICASSP 1989, section 3; D. Pallett et al., "Tools for the analysis of benchmark speech recognition tests", 1990.

Utterances are cut into segments wherever both systems have two successive words right, so that the errors of one segment hardly
depend on those of the next. The differences of the systems' errors per segment are then tested for a mean of zero.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from asr.score.errors import Alignment, Scored

RIGHT_WORDS = 2
"""So many successive words that both systems have right end a segment."""


@dataclass(frozen=True)
class Mapsswe:
    """segments: those with an error of either system. z: mean difference over its standard error, negative where the system is
    better. p_value: two-sided, by the normal distribution, which takes some 50 segments to be near the truth."""

    segments: int
    z: float
    p_value: float


def mapsswe(system: Scored, baseline: Scored) -> Mapsswe:
    """Of two systems on the same utterances (see :func:`asr.score.bootstrap.compare`, which checks that they are)."""
    others = {u.utterance.id: u.alignment for u in baseline.utterances}
    added = [a - b for u in system.utterances for a, b in segments(u.alignment, others[u.utterance.id])]
    count = len(added)
    mean = sum(added) / max(count, 1)
    variance = sum((value - mean) ** 2 for value in added) / max(count - 1, 1)
    if variance == 0:  # no segment, or the same difference in all of them: then the test of signs is left
        return Mapsswe(count, math.copysign(math.inf, mean) if mean else 0.0, min(1.0, 2 * 0.5**count) if mean else 1.0)
    z = mean / math.sqrt(variance / count)
    return Mapsswe(count, z, math.erfc(abs(z) / math.sqrt(2)))


def segments(system: Alignment, baseline: Alignment) -> Iterator[tuple[int, int]]:
    """Errors of the two systems in each segment of an utterance that has any."""
    errors, right = [0, 0], 0
    for inserted_a, wrong_a, inserted_b, wrong_b in (a + b for a, b in zip(_slots(system), _slots(baseline), strict=True)):
        if inserted_a or inserted_b:
            right = 0
        right = 0 if wrong_a or wrong_b else right + 1
        errors = [errors[0] + inserted_a + wrong_a, errors[1] + inserted_b + wrong_b]
        if right >= RIGHT_WORDS and any(errors):
            yield errors[0], errors[1]
            errors = [0, 0]
    if any(errors):
        yield errors[0], errors[1]


def _slots(alignment: Alignment) -> Iterator[tuple[int, int]]:
    """For each reference word, and once more for the end: words inserted before it, and whether it is wrong (0 or 1)."""
    inserted = 0
    for ref, hyp in alignment:
        if ref is None:
            inserted += 1
            continue
        yield inserted, int(ref != hyp)
        inserted = 0
    yield inserted, 0
