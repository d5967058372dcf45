from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.hypotheses import Candidate, Utterance
from asr.score.errors import Counts, align, count, mixed_units, score, score_utterance

WORDS = st.lists(st.sampled_from(["a", "b", "c", "***", "é"]), max_size=8)


def edit_distance(ref: list[str], hyp: list[str]) -> int:
    """The textbook's table (Wagner and Fischer 1974), row by row."""
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, start=1):
        previous, row = row, [i]
        for j, h in enumerate(hyp, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (r != h)))
    return row[-1]


@given(ref=WORDS, hyp=WORDS)
def test_counts_are_the_edit_distance_and_the_alignment_spells_both(ref: list[str], hyp: list[str]) -> None:
    alignment = align(ref, hyp)
    assert [r for r, _ in alignment if r is not None] == ref
    assert [h for _, h in alignment if h is not None] == hyp
    assert all(pair != (None, None) for pair in alignment)
    counts = count(alignment)
    assert counts.errors == edit_distance(ref, hyp)
    assert counts.length == len(ref)
    assert len(hyp) == len(ref) - counts.deletions + counts.insertions


@given(ref=WORDS)
def test_the_identical_has_no_errors(ref: list[str]) -> None:
    scored = score_utterance(Utterance("u", " ".join(ref), " ".join(ref)))
    assert scored.words == Counts(len(ref)) and scored.words.rate == 0 and scored.characters.errors == 0


@pytest.mark.parametrize(("ref", "hyp", "words", "characters"), [
    ("the cat sat", "the cat sat", Counts(3), Counts(9)),
    ("the cat sat", "the cap sat down", Counts(3, 1, 0, 1), Counts(9, 1, 0, 4)),
    ("the cat sat", "sat", Counts(3, 0, 2, 0), Counts(9, 0, 6, 0)),
    ("the cat", "", Counts(2, 0, 2, 0), Counts(6, 0, 6, 0)),
    ("", "a b", Counts(0, 0, 0, 2), Counts(0, 0, 0, 2)),
    ("ice cream", "icecream", Counts(2, 1, 1, 0), Counts(8)),
])
def test_counts_by_hand(ref: str, hyp: str, words: Counts, characters: Counts) -> None:
    scored = score_utterance(Utterance("u", ref, hyp))
    assert (scored.words, scored.characters) == (words, characters)


def test_the_oracle_chooses_the_best_of_each_list() -> None:
    lists = {"a b c": ["a c", "a b d", "a b c"], "d e": ["d", "x y", "z"], "f": ["f g"]}
    utterances = [Utterance(ref, ref, hyps[0], nbest=tuple(Candidate(hyp, 0.0) for hyp in hyps)) for ref, hyps in lists.items()]
    assert score(utterances).oracle == Counts(6, 0, 1, 1)
    assert score([Utterance("1", "a", "b")]).oracle is None


def test_composed_and_decomposed_letters_are_one_character() -> None:
    assert score_utterance(Utterance("u", "caf\u00e9", "cafe\u0301")).characters.errors == 0


@pytest.mark.parametrize(("text", "units"), [
    ("今天 meeting 很多", ["今", "天", "meeting", "很", "多"]),
    ("iPhone好用", ["iPhone", "好", "用"]),
    ("カメラ ok", ["カ", "メ", "ラ", "ok"]),
    ("안녕 hello", ["안녕", "hello"]),
])
def test_mixed_units(text: str, units: list[str]) -> None:
    assert mixed_units(text) == units


def test_mixed_error_rate_by_hand() -> None:
    found = score([Utterance("u", "今天 meeting 很多", "今天 meetings 多"), Utterance("v", "yes no", "yes")])
    assert found.mixed == Counts(7, 1, 2, 0)
    assert score([Utterance("v", "yes no", "yes 好")]).mixed is None


def test_rates() -> None:
    assert Counts(4, 1, 1, 1).rate == 0.75
    assert Counts().rate == 0 and math.isinf(Counts(0, 0, 0, 1).rate)


def test_a_set_is_the_sum_of_its_utterances() -> None:
    scored = score([Utterance("1", "a b", "a c", "s"), Utterance("2", "", "d", "t"), Utterance("3", "e f g", "e g", "s")])
    assert scored.words == Counts(5, 1, 1, 1)
    assert scored.errors_N.tolist() == [1, 1, 1] and scored.lengths_N.tolist() == [2, 0, 3]
    assert {name: [u.utterance.id for u in said] for name, said in scored.by_speaker().items()} == {"s": ["1", "3"], "t": ["2"]}


def test_nothing_to_score_against_is_refused() -> None:
    with pytest.raises(ValueError, match="no reference word"):
        score([Utterance("1", "", "a")])
