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
])
def test_normalised(config: dict, text: str, expected: str) -> None:
    normalize = Normalizer(validate(Normalizer.Config, config, "test"))
    assert normalize(text) == expected
    assert normalize(normalize(text)) == expected
