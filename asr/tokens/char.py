"""Characters (Unicode code points); the boundary mark stands before each word, or is part of its first character's token."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from asr.config import Config as BaseConfig
from asr.tokens.tokenizer import BLANK_SYMBOL, BOUNDARY, UNK_SYMBOL, Tokenizer, check_texts, language_tags, read_symbols


class CharTokenizer(Tokenizer):
    class Config(BaseConfig):
        """boundary: the mark that begins a word is a token ``alone``, or ``attached`` to the word's first character. Attached, a word of
        one character is one token: for texts that write each character of a script without spaces as a word.
        """

        type: Literal["char"] = "char"
        boundary: Literal["alone", "attached"] = "alone"

        @property
        def name(self) -> str:
            return "char" if self.boundary == "alone" else "char_attached"

    def __init__(self, config: "CharTokenizer.Config", symbols: Sequence[str]) -> None:
        super().__init__(config, symbols)
        self._ids = {symbol: token for token, symbol in enumerate(symbols)}

    def encode_word(self, word: str) -> list[int]:
        if BOUNDARY + word in self._ids:  # a language tag, or one character to which the boundary is attached
            return [self._ids[BOUNDARY + word]]
        if BOUNDARY + word[0] in self._ids:  # never in a vocabulary whose boundary is alone
            return [self._ids[BOUNDARY + word[0]], *map(self._id, word[1:])]
        return [self._ids[BOUNDARY], *map(self._id, word)]

    def _id(self, char: str) -> int:
        return self._ids.get(char, self.unk_id) if char != BOUNDARY else self.unk_id

    def unknown(self, text: str) -> list[str]:
        found: dict[str, None] = {}
        for word in text.split():
            if BOUNDARY + word in self._ids:
                continue
            rest = word[1:] if BOUNDARY + word[0] in self._ids else word
            found.update(dict.fromkeys(char for char in rest if self._id(char) == self.unk_id))
        return list(found)

    @classmethod
    def train(cls, config: "CharTokenizer.Config", texts: Sequence[str]) -> "CharTokenizer":
        check_texts(texts)
        tags = language_tags(texts)
        words = [word for text in texts for word in text.split() if word not in tags]
        if config.boundary == "alone":
            units = {char for word in words for char in word}
        else:
            units = {BOUNDARY + word[0] for word in words} | {char for word in words for char in word[1:]}
        return cls(config, [BLANK_SYMBOL, UNK_SYMBOL, BOUNDARY, *sorted(units), *(BOUNDARY + tag for tag in tags)])

    @classmethod
    def load(cls, config: "CharTokenizer.Config", directory: Path) -> "CharTokenizer":
        return cls(config, read_symbols(directory / "tokens.txt"))
