"""Characters (Unicode code points), each word preceded by the boundary mark."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from asr.config import Config as BaseConfig
from asr.tokens.tokenizer import BLANK_SYMBOL, BOUNDARY, UNK_SYMBOL, Tokenizer, check_texts, read_symbols


class CharTokenizer(Tokenizer):
    class Config(BaseConfig):
        type: Literal["char"] = "char"

        @property
        def name(self) -> str:
            return "char"

    def __init__(self, config: "CharTokenizer.Config", symbols: Sequence[str]) -> None:
        super().__init__(config, symbols)
        self._ids = {symbol: token for token, symbol in enumerate(symbols)}

    def encode_word(self, word: str) -> list[int]:
        return [self._ids[BOUNDARY]] + [self._ids.get(char, self.unk_id) if char != BOUNDARY else self.unk_id for char in word]

    def unknown(self, text: str) -> list[str]:
        chars = dict.fromkeys("".join(text.split()))
        return [char for char in chars if char not in self._ids or char == BOUNDARY]

    @classmethod
    def train(cls, config: "CharTokenizer.Config", texts: Sequence[str]) -> "CharTokenizer":
        check_texts(texts)
        chars = sorted({char for text in texts for char in "".join(text.split())})
        return cls(config, [BLANK_SYMBOL, UNK_SYMBOL, BOUNDARY, *chars])

    @classmethod
    def load(cls, config: "CharTokenizer.Config", directory: Path) -> "CharTokenizer":
        return cls(config, read_symbols(directory / "tokens.txt"))
