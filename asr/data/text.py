"""Text normalisation: what a transcript is before anything counts, learns or scores it."""
from __future__ import annotations

import unicodedata
from typing import Literal

from asr.config import Config as BaseConfig

PUNCTUATION = "P"
"""First letter of the Unicode categories of punctuation."""


class Normalizer:
    class Config(BaseConfig):
        """The steps, in the order in which they are applied.

        unicode: Unicode normal form; ``null`` leaves the code points alone.
        replace: strings to put in place of others, in the order given, e.g. ``{"&": " and "}``.
        case: what to fold letters to.
        remove: characters to take out; ``punctuation`` stands for every Unicode punctuation mark.
        keep: characters that ``remove: punctuation`` spares.
        """

        unicode: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = "NFC"
        replace: dict[str, str] = {}
        case: Literal["lower", "upper", "keep"] = "keep"
        remove: str = ""
        keep: str = "'"

    def __init__(self, config: "Normalizer.Config") -> None:
        self.config = config

    def __call__(self, text: str) -> str:
        """The normalised text, words joined by single spaces; may be empty."""
        config = self.config
        if config.unicode is not None:
            text = unicodedata.normalize(config.unicode, text)
        for old, new in config.replace.items():
            text = text.replace(old, new)
        if config.case != "keep":
            text = text.lower() if config.case == "lower" else text.upper()
        if config.remove:
            text = "".join(character for character in text if not self._removed(character))
        return " ".join(text.split())

    def _removed(self, character: str) -> bool:
        if self.config.remove == "punctuation":
            return unicodedata.category(character).startswith(PUNCTUATION) and character not in self.config.keep
        return character in self.config.remove
