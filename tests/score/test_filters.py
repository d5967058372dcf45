"""Rules against what recognisers make up."""
from __future__ import annotations

from dataclasses import replace

import pytest

from asr.hypotheses import Utterance
from asr.score.filters import Rules, confidence, disagreement, fault, repeats
from asr.types import Word


def result(text: str, confidences: float = 0.9, duration: float = 2.0) -> Utterance:
    return Utterance("u", "", text, duration=duration, words=tuple(Word(word, confidence=confidences) for word in text.split()))


@pytest.mark.parametrize("text, times", [
    ("", 1), ("one", 1), ("one two one two", 2), ("no no no no", 4), ("well no no no then", 3),
    ("thank you thank you thank you for that", 3), ("a b c a b c a b", 2), ("one two three one two", 1),
])
def test_repeats(text: str, times: int) -> None:
    assert repeats(text.split()) == times


def test_disagreement_is_of_characters() -> None:
    assert disagreement("one two", "onetwo") == 0 and disagreement("", "") == 0
    assert disagreement("abcd", "abcx") == disagreement("abcx", "abcd") == 0.25
    assert disagreement("abcd", "") == 1


def test_confidence_is_the_geometric_mean() -> None:
    assert confidence(replace(result("a b"), words=(Word("a", confidence=0.9), Word("b", confidence=0.4)))) == pytest.approx(0.6)
    assert confidence(replace(result("a b"), words=(Word("a"), Word("b")))) == 1.0
    assert confidence(replace(result("a"), words=(Word("a", confidence=0.0),))) < 1e-5


@pytest.mark.parametrize("found, other, reason", [
    (result("take the first train"), "take the first train", None),
    (result("take the first train"), "take the third drain", "searches disagree"),
    (result("take the first train", confidences=0.5), "take the first train", "low confidence"),
    (result("so so so so so so"), "so so so so so so", "repetition: 6 times in a row"),
    (result("so so so so"), "so so so so", None),
    (result("yes", duration=10.0), "yes", "unusual rate: 0.3"),
    (result("a very long text in no time", duration=0.2), "a very long text in no time", "unusual rate: 135.0"),
    (result(""), "", "nothing recognised"),
])
def test_faults(found: Utterance, other: str, reason: str | None) -> None:
    said = fault(found, result(other), Rules())
    assert (said is None) if reason is None else (said is not None and said.startswith(reason))


def test_changes_of_a_transcript() -> None:
    found = result("take the first train")
    rules = Rules(max_change=0.2)
    assert all(fault(replace(found, ref=ref), found, rules) is None for ref in ("", "take the first trains", "taker of the first train"))
    said = fault(replace(found, ref="take the third train"), found, rules)
    assert said is not None and said.startswith("not what the transcript says: 0.235: ")
    assert fault(replace(found, ref="something else"), found, Rules()) is None
