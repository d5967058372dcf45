"""Text normalisation: what a transcript is before anything counts, learns or scores it."""
from __future__ import annotations

import html
import re
import unicodedata
from typing import Literal

from asr.config import Config as BaseConfig
from asr.data.scripts import is_mark, is_unspaced

PUNCTUATION = "P"
"""First letter of the Unicode categories of punctuation."""

TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


class Normalizer:
    class Config(BaseConfig):
        """The steps, in the order in which they are applied.

        html: tags become spaces, entities (``&amp;``) the characters they stand for.
        unicode: Unicode normal form; ``null`` leaves the code points alone.
        replace: strings to put in place of others, in the order given, e.g. ``{"&": " and "}``.
        case: what to fold letters to.
        remove: characters to take out; ``punctuation`` stands for every Unicode punctuation mark.
        keep: characters that ``remove: punctuation`` spares.
        keep_inside: characters that it spares between two letters or digits only, such as an apostrophe that is a quotation mark elsewhere.
        remove_words: words to take out, as they are after the steps above: tags of punctuation and noise, hesitations.
        characters_as_words: characters of scripts that have no spaces between words (Han, kana, Thai, Lao, Khmer, Burmese) become
            words of their own, each with its combining marks. A word error rate then counts characters of these scripts, and
            is the mixed error rate of text that switches to a script with spaces.
        """

        html: bool = False
        unicode: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = "NFC"
        replace: dict[str, str] = {}
        case: Literal["lower", "upper", "keep"] = "keep"
        remove: str = ""
        keep: str = "'"
        keep_inside: str = ""
        remove_words: tuple[str, ...] = ()
        characters_as_words: bool = False

    def __init__(self, config: "Normalizer.Config") -> None:
        self.config = config

    def __call__(self, text: str) -> str:
        """The normalised text, words joined by single spaces; may be empty."""
        config = self.config
        if config.html:
            text = html.unescape(TAG.sub(" ", text))
        if config.unicode is not None:
            text = unicodedata.normalize(config.unicode, text)
        for old, new in config.replace.items():
            text = text.replace(old, new)
        if config.case != "keep":
            text = text.lower() if config.case == "lower" else text.upper()
        if config.remove:
            padded = f" {text} "
            text = "".join(mark for before, mark, after in zip(padded, text, padded[2:]) if not self._removed(mark, before, after))
        if config.remove_words:
            text = " ".join(word for word in text.split() if word not in config.remove_words)
        if config.characters_as_words:
            text = _apart(text)
        return " ".join(text.split())

    def _removed(self, character: str, before: str, after: str) -> bool:
        config = self.config
        if config.remove != "punctuation":
            return character in config.remove
        if not unicodedata.category(character).startswith(PUNCTUATION) or character in config.keep:
            return False
        return not (character in config.keep_inside and in_word(before) and in_word(after))


def in_word(character: str) -> bool:
    """Letters, digits and combining marks."""
    return unicodedata.category(character)[0] in "LNM"


def _apart(text: str) -> str:
    parts: list[str] = []
    after_unspaced = False
    for character in text:
        if not is_mark(character):
            unspaced = is_unspaced(character)
            if unspaced or after_unspaced:
                parts.append(" ")
            after_unspaced = unspaced
        parts.append(character)
    return "".join(parts)
