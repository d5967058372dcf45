from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from asr.hypotheses import Utterance
from asr.score.errors import Counts, score, score_utterance
from asr.score.report import aligned, confusions, error_report, speaker_table, table, width
from asr.types import Word


def test_alignment_by_hand() -> None:
    assert aligned(score_utterance(Utterance("u", "the cat sat here", "the captain sat down here"))) == [
        "ref  the cat     sat ***  here",
        "hyp  the captain sat down here",
        "         S           I",
    ]
    assert aligned(score_utterance(Utterance("u", "yes no", "yes"))) == ["ref  yes no", "hyp  yes ***", "         D"]


def test_wide_and_combining_characters_keep_the_columns() -> None:
    assert [width(text) for text in ("ab", "三百", "e\u0301", "วันที่")] == [2, 4, 1, 3]
    ref, hyp, kinds = aligned(score_utterance(Utterance("u", "三百 二", "三百 一 二")))
    assert (ref, hyp, kinds) == ("ref  三百 *** 二", "hyp  三百 一  二", "          I")


def test_right_to_left_words_stay_in_columns_from_left_to_right() -> None:
    ref, hyp, _ = aligned(score_utterance(Utterance("u", "כן לא", "כן כן לא")))
    for line in (ref, hyp):
        words = line[5:].split()
        assert len(words) == 3 and all(word.endswith("\u200e") for word in words)
    assert width(ref) == width(hyp)


WORDS = st.lists(st.text("aé三ש", min_size=1, max_size=4), max_size=5)


@given(ref=WORDS, hyp=WORDS)
def test_columns_begin_at_the_same_place_in_all_lines(ref: list[str], hyp: list[str]) -> None:
    scored = score_utterance(Utterance("u", " ".join(ref), " ".join(hyp)))
    lines = [line[5:] for line in aligned(scored)[:2]]
    starts = []
    for line in lines:
        visible = [c for c in line if unicodedata.category(c) != "Cf"]
        text = "".join(visible)
        starts.append([width(text[:i]) for i, c in enumerate(text) if c != " " and (i == 0 or text[i - 1] == " ")])
    assert starts[0] == starts[1] and len(starts[0]) == len(scored.alignment)


def test_confusions_are_counted() -> None:
    scored = score([Utterance("1", "fifteen fifteen nine", "fifty fifty five"), Utterance("2", "a b", "b c")])
    found = confusions(scored)
    assert found["substitutions"].most_common(1) == [("fifteen -> fifty", 2)]
    assert found["substitutions"]["nine -> five"] == 1
    assert sum(map(sum, (c.values() for c in found.values()))) == scored.words.errors


def test_error_report_holds_every_utterance_and_the_totals() -> None:
    scored = score([Utterance("one", "a b", "a c", "anna"), Utterance("two", "a", "a")])
    report = error_report(scored, "tiny, test, greedy")
    assert "33.33 %  1 errors in 3: 1 substitutions, 0 deletions, 0 insertions" in report
    assert "     1  b -> c" in report and "one  anna  50 %  S 1  D 0  I 0\nref  a b\nhyp  a c\n       S" in report
    assert "two  correct\nref  a" in report and report.startswith("tiny, test, greedy\n")


def test_most_frequent_confusions_only() -> None:
    scored = score([Utterance(str(i), f"w{i}", "x") for i in range(40)])
    report = error_report(scored, "t", most_frequent=5)
    assert "substitutions (the 5 most frequent of 40)" in report and report.count("-> x") == 5


def test_speaker_table_has_the_worst_first_and_the_total() -> None:
    scored = score([Utterance("1", "a b", "a b", "good"), Utterance("2", "a b", "c", "bad"), Utterance("3", "x", "y")])
    rows = [line.split() for line in speaker_table(scored).splitlines()[1:]]
    assert rows == [["bad", "1", "2", "100.00", "1", "1", "0", "100.00"], ["good", "1", "2", "0.00", "0", "0", "0", "0.00"],
                    ["all", "2", "4", "50.00", "1", "1", "0", "50.00"]]
    assert "no speakers" in speaker_table(score([Utterance("3", "x", "y")]))


def test_table_columns() -> None:
    assert table([("name", "n"), ("三", "10")]) == "name   n\n三    10"


def test_languages_are_no_words_and_have_rates_of_their_own() -> None:
    scored = score([
        Utterance("a", "<lang:sw> habari ya", "<lang:sw> habari wa", words=tuple(Word(w) for w in ("<lang:sw>", "habari", "wa"))),
        Utterance("b", "<lang:sw> maji", "<lang:en> magic"), Utterance("c", "<lang:en> the boy", "the boy"),
    ])
    assert (scored.words.length, scored.words.errors) == (5, 2) and scored.characters.length == 18
    assert scored.languages == Counts(length=3, substitutions=1, deletions=1)
    assert [word.text for word in scored.utterances[0].utterance.words] == ["habari", "wa"]
    report = error_report(scored, "title").splitlines()
    assert "languages    66.67 %  2 errors in 3: 1 substitutions, 1 deletions, 0 insertions" in report
    rows = [line.split() for line in report if line[:3] in ("sw ", "en ")]
    assert rows == [["en", "1", "2", "0.00", "0.00", "0.00"], ["sw", "2", "3", "66.67", rows[1][4], "50.00"]]
    assert "<lang" not in "".join(report)
    assert score([Utterance("a", "yes", "yes")]).languages is None
