"""A smaller alphabet for the acoustic model, and the words themselves back from what it hears.

Diwan and Jyothi, "Reduce and reconstruct: ASR for low-resource phonetic languages", Interspeech 2021: letters that sound alike are one
token. A lexicon then spells all words of one reduced form alike, and the language model, in a graph or as the ``lexicon`` scorer,
chooses among them; no tokenizer can, so that searches without one give the word that is most frequent in the training text.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.files import atomic_write
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.tokenizer import Tokenizer, check_texts
from asr.types import LANGUAGE_TAG

SPELLING: dict[str, type[Tokenizer]] = {"char": CharTokenizer, "bpe": BpeTokenizer}


class ReducedTokenizer(Tokenizer):
    class Config(BaseConfig):
        """merge: strings of a word that are replaced by others, in the order given, as in ``{bh: b, aa: a}``; tokens: of what is left."""

        type: Literal["reduced"] = "reduced"
        merge: dict[str, str] = Field(min_length=1)
        tokens: one_of(SPELLING) = CharTokenizer.Config()  # type: ignore[valid-type]

        @property
        def name(self) -> str:
            return f"reduced_{self.tokens.name}"

    def __init__(self, config: "ReducedTokenizer.Config", tokenizer: Tokenizer, originals: Sequence[str]) -> None:
        """tokenizer: of reduced words. originals: words, the most frequent first."""
        super().__init__(config, tokenizer.symbols)
        self._tokenizer, self._by_frequency = tokenizer, list(originals)
        self._originals = {_reduced(word, config): word for word in reversed(originals)}

    def reduce(self, text: str) -> str:
        """``text`` in the smaller alphabet."""
        return " ".join(_reduced(word, self.config) for word in text.split())

    def encode_word(self, word: str) -> list[int]:
        return self._tokenizer.encode_word(self.reduce(word))

    def pronunciations(self, word: str, segmentations: int = 1) -> list[list[int]]:
        return self._tokenizer.pronunciations(self.reduce(word), segmentations)

    def spellings(self, text: str, n: int) -> list[list[int]]:
        return self._tokenizer.spellings(self.reduce(text), n)

    def unknown(self, text: str) -> list[str]:
        return self._tokenizer.unknown(self.reduce(text))

    def spell(self, units: Sequence[str]) -> str:
        reduced = "".join(units)
        return self._originals.get(reduced, reduced)

    @classmethod
    def train(cls, config: "ReducedTokenizer.Config", texts: Sequence[str]) -> "ReducedTokenizer":
        check_texts(texts)
        counts = Counter(word for text in texts for word in text.split() if not LANGUAGE_TAG.fullmatch(word))
        inner: Any = config.tokens
        reduced = [" ".join(_reduced(word, config) for word in text.split()) for text in texts]
        return cls(config, SPELLING[inner.type].train(inner, reduced), sorted(counts, key=lambda word: (-counts[word], word)))

    @classmethod
    def load(cls, config: "ReducedTokenizer.Config", directory: Path) -> "ReducedTokenizer":
        inner: Any = config.tokens
        originals = (directory / "originals.txt").read_text(encoding="utf-8").split()
        return cls(config, SPELLING[inner.type].load(inner, directory / "reduced"), originals)

    def _save_model(self, directory: Path) -> None:
        self._tokenizer.save(directory / "reduced")
        with atomic_write(directory / "originals.txt") as file:
            file.writelines(f"{word}\n" for word in self._by_frequency)


def _reduced(word: str, config: ReducedTokenizer.Config) -> str:
    """A word that would have no letter left stays as it is, and so do language tags."""
    if LANGUAGE_TAG.fullmatch(word):
        return word
    reduced = word
    for old, new in config.merge.items():
        reduced = reduced.replace(old, new)
    return reduced or word
