"""Texts with one defect each: the rule that is proposed, what it makes of them, and whom it names."""
from __future__ import annotations

from collections.abc import Sequence

import pytest

from asr.config import validate
from asr.data.text import Normalizer
from asr.recipe.survey import Utterance
from asr.recipe.text_rules import TextRules, propose_text_rules


def proposed(texts: Sequence[str]) -> tuple[TextRules, list[str]]:
    utterances = [Utterance(f"u{k}", "all", text, 1.0, 16000, 1, None, k) for k, text in enumerate(texts)]
    rules = propose_text_rules(utterances)
    normalize = Normalizer(validate(Normalizer.Config, rules.settings, "test"))
    assert rules.reasons.keys() == rules.settings.keys()
    return rules, [normalize(text) for text in texts]


@pytest.mark.parametrize("texts, normalised", [
    (["one two", "three"], ["one two", "three"]),
    (["ONE TWO", "THREE"], ["ONE TWO", "THREE"]),
    (["One two.", "THREE!"], ["one two", "three"]),
    (["cafe\u0301", "café"], ["café", "café"]),
    (["well-known and/or", "the end—of it", "etc... x"], ["well known and or", "the end of it", "etc x"]),
    (["don’t", "ng’ombe ‘x’ it's"], ["don't", "ng'ombe x' it's"]),
    (["don’t say ‘x’ or 'y'", "I’m", "‘a’", "it’s"], ["don't say x or y", "i'm", "a", "it's"]),
    (["she said 'yes'", "'no' she said"], ["she said yes", "no she said"]),
    (["one<br/>two &amp; three", "x"], ["one two & three", "x"]),
    (["one\x07two", "a\u200bb\u00ad", "\ufeffx"], ["one two", "ab", "x"]),
    (["coraÃ§Ã£o", "straÃŸe", "naïve"], ["coração", "straße", "naïve"]),
    (["[noise] so <unk> what", "{laughs} yes"], ["so what", "yes"]),
    (["ＡＢＣ full", "ﬁve"], ["abc full", "five"]),
    (["İstanbul IŞIK", "ılık"], ["istanbul ışık", "ılık"]),
    (["كتـــاب جديد", "مَرحبا، العالم؟"], ["كتاب جديد", "مَرحبا العالم"]),
    (["שלום, עולם!", "צה״ל", "בית־ספר"], ["שלום עולם", "צה״ל", "בית ספר"]),
    (["नमस्ते दुनिया।", "क्षत्रिय"], ["नमस्ते दुनिया", "क्षत्रिय"]),
    (["می\u200cخواهم", "خوب"], ["می\u200cخواهم", "خوب"]),
    (["你好，世界。", "我用Python写"], ["你 好 世 界", "我 用 python 写"]),
    (["ที่นี่", "กิน"], ["ที่ นี่", "กิ น"]),
    (["ഇത് മലയാളം", "ഭാഷ."], ["ഇത് മലയാളം", "ഭാഷ"]),
    (["ሰላም፡ለዓለም።", "እንዴት፡ነህ"], ["ሰላም ለዓለም", "እንዴት ነህ"]),
    (["col·legi", "l·l."], ["col·legi", "l·l"]),
])
def test_texts(texts: list[str], normalised: list[str]) -> None:
    assert proposed(texts)[1] == normalised


@pytest.mark.parametrize("texts, what, ids", [
    (["a", "b <b>c</b>", "d &lt; e"], "HTML", ("u1", "u2")),
    (["a", "b\u202ec", "d\x00"], "control or invisible characters (U+0000, U+202E)", ("u1", "u2")),
    (["a", "Ã©tÃ©", "été"], "encoded twice", ("u1",)),
    (["a", "b\ufffd"], "U+FFFD", ("u1",)),
    (["a 1", "b", "२"], "digits", ("u0", "u2")),
    (["a €", "b", "2 + 2 = 4%"], "symbols (% + = €)", ("u0", "u2")),
    (["[noise] a", "b"], "marks in brackets ([noise] (1))", ("u0",)),
    (["a" * 300, "b", "в"], "a script that is rare here (cyrillic)", ("u2",)),
    (["ﬁ", "a"], "other shapes", ("u0",)),
])
def test_findings(texts: list[str], what: str, ids: tuple[str, ...]) -> None:
    found = [finding for finding in proposed(texts)[0].findings if what in finding.what]
    assert [finding.ids for finding in found] == [ids]


def test_what_is_lost_is_forbidden() -> None:
    assert proposed(["a", "b\ufffd"])[0].forbidden == "\ufffd"
    assert proposed(["a", "b"])[0].forbidden == ""


def test_text_in_brackets_is_text() -> None:
    texts = [f"a [{k} and x] b" for k in range(50)]
    assert proposed(texts)[1][3] == "a 3 and x b"


def test_clean_texts_have_no_findings() -> None:
    assert proposed(["one two", "don't"])[0].findings == []
