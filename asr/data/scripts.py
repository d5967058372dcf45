"""Writing systems, as far as text normalisation and statistics need them.

Python knows the category of a character but not its script. The first word of its Unicode name is the script for all letters in use
(``LATIN SMALL LETTER A``, ``CJK UNIFIED IDEOGRAPH-4E2D``); combining marks go with the letter they stand on and have none.
"""
from __future__ import annotations

import unicodedata
from functools import cache

UNSPACED = frozenset({
    "CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR",
})
"""Scripts that put no space between words (UAX #14, line breaking classes ID and SA)."""

RIGHT_TO_LEFT = frozenset({"ARABIC", "HEBREW", "SYRIAC", "THAANA", "NKO", "ADLAM", "SAMARITAN", "MANDAIC"})


@cache
def script(character: str) -> str | None:
    """The script of a letter, such as ``LATIN``; None for marks, digits, punctuation and everything else."""
    if not unicodedata.category(character).startswith("L"):
        return None
    return unicodedata.name(character, "UNNAMED").split(" ")[0]


@cache
def is_unspaced(character: str) -> bool:
    """Whether the character belongs to a script without spaces between words."""
    return script(character) in UNSPACED or unicodedata.name(character, "").startswith("IDEOGRAPHIC NUMBER")


@cache
def has_case(character: str) -> bool:
    return character.lower() != character.upper()


@cache
def is_mark(character: str) -> bool:
    """A combining mark: it stands on, under or beside the character before it and is not one of its own."""
    return unicodedata.category(character).startswith("M")
