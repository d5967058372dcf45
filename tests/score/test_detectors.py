from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.hypotheses import Utterance
from asr.score.detectors import LONGEST_PHRASE, REPEATS, deleted_stretches, loops, repetitions
from asr.score.errors import score


@pytest.mark.parametrize(("text", "found"), [
    ("a b c d", []),
    ("a a", []),
    ("x a a a y", [(("a",), 3)]),
    ("a b a b a b a b c", [(("a", "b"), 4)]),
    ("a a a a a a", [(("a",), 6)]),  # and not twice "a a a"
    ("b b b a b c a b c a b c", [(("b",), 3), (("a", "b", "c"), 3)]),
])
def test_loops_by_hand(text: str, found: list[tuple[tuple[str, ...], int]]) -> None:
    assert list(loops(text.split())) == found


@given(st.lists(st.sampled_from("ab"), max_size=14), st.lists(st.sampled_from("ab"), min_size=1, max_size=3), st.integers(0, 5))
def test_a_loop_is_there_if_and_only_if_a_phrase_is_repeated(around: list[str], phrase: list[str], times: int) -> None:
    units = around[:7] + phrase * times + around[7:]
    repeated = any(units[i : i + n] * REPEATS == units[i : i + n * REPEATS]
                   for n in range(1, LONGEST_PHRASE + 1) for i in range(len(units) - n * REPEATS + 1))
    found = list(loops(units))
    assert bool(found) == repeated
    assert all(" ".join(phrase * times) in " ".join(units) for phrase, times in found)


def test_what_was_said_is_no_repetition() -> None:
    scored = score([Utterance("said", "no no no yes", "no no no yes"), Utterance("looped", "no no no yes", "no no no no no yes"),
                    Utterance("other", "a b", "a b thank you thank you thank you"), Utterance("cjk", "很 好", "很 好好好好")])
    assert [(f.utterance.utterance.id, f.text, f.times) for f in repetitions(scored)] == [
        ("looped", "no", 5), ("cjk", "好", 4), ("other", "thank you", 3)]


def test_stretches_of_deleted_words() -> None:
    scored = score([Utterance("none", "a b c d", ""), Utterance("two", "a b c d", "a d"), Utterance("apart", "a b c d e", "a c"),
                    Utterance("long", "a b c d e f g h", "a h")])
    found = [(f.utterance.utterance.id, f.text, f.times) for f in deleted_stretches(scored)]
    assert found == [("long", "b c d e f g", 6), ("none", "a b c d", 4)]
