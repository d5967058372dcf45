"""Normalisation of transcripts."""
from __future__ import annotations

import pytest

from asr.config import validate
from asr.data.text import Normalizer


@pytest.mark.parametrize("config, text, expected", [
    ({}, "  Two \t words\n", "Two words"),
    ({"case": "lower"}, "ÀÉ Two", "àé two"),
    ({"case": "upper"}, "straße", "STRASSE"),
    ({"remove": ".,"}, "no. no, no!", "no no no!"),
    ({"remove": "punctuation"}, "«don't» — stop…", "don't stop"),
    ({"remove": "punctuation", "keep": ""}, "don't", "dont"),
    ({"replace": {"&": " and ", "%": " percent"}}, "a&b 5%", "a and b 5 percent"),
    ({"unicode": "NFC"}, "e\u0301", "\u00e9"),
    ({"unicode": "NFKC"}, "ﬁve", "five"),
    ({"unicode": None}, "e\u0301", "e\u0301"),
    ({"remove": "punctuation"}, "...", ""),
    ({"remove": "punctuation", "keep": "", "keep_inside": "'·"}, "'don't' l·l ·", "don't l·l"),
    ({"case": "lower", "remove_words": ["<comma>", "uh"]}, "Uh WELL <COMMA> uhm UH", "well uhm"),
    ({"html": True}, "<p class=x>one<br/>two</p> &eacute;&#39;s 1 < 2", "one two é's 1 < 2"),
    ({"characters_as_words": True}, "我用Python3写 กิน ok", "我 用 Python3 写 กิ น ok"),
    ({"characters_as_words": True}, "two words", "two words"),
])
def test_normalised(config: dict, text: str, expected: str) -> None:
    normalize = Normalizer(validate(Normalizer.Config, config, "test"))
    assert normalize(text) == expected
    assert normalize(normalize(text)) == expected
