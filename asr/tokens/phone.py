"""Phones by a pronunciation lexicon or by eSpeak NG, each word preceded by the boundary mark."""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from asr.config import Config as BaseConfig
from asr.tokens import espeak
from asr.tokens.lexicon import Lexicon, explain_missing, missing_words, read_lexicon, write_lexicon
from asr.tokens.tokenizer import BLANK_SYMBOL, BOUNDARY, UNK_SYMBOL, Tokenizer, check_texts, language_tags, read_symbols

log = logging.getLogger(__name__)


class PhoneTokenizer(Tokenizer):
    """A word is encoded by its first pronunciation.

    Decoding gives the word with that pronunciation (of homophones the one most frequent in the training text), and for phones that
    are no word's pronunciation the phones themselves, joined by ``-``.
    """

    class Config(BaseConfig):
        """lexicon: a file of ``word phone phone ...`` lines (CMUdict, Kaldi). espeak: or the voice by whose rules eSpeak NG pronounces
        words (``sw``, ``en-us``); words other than those of the training text may have its phones only.
        oov: what a training word without pronunciation means: an error that names it, or ``<unk>``.
        """

        type: Literal["phone"] = "phone"
        lexicon: str | None = None
        espeak: str | None = None
        oov: Literal["error", "unk"] = "error"

        @model_validator(mode="after")
        def _one_source(self) -> "PhoneTokenizer.Config":
            if (self.lexicon is None) == (self.espeak is None):
                raise ValueError("phones are those of a lexicon (lexicon: FILE) or of eSpeak NG (espeak: VOICE): set one of the two")
            return self

        @property
        def name(self) -> str:
            return "phone" if self.espeak is None else f"phone_{self.espeak}"

    def __init__(self, config: "PhoneTokenizer.Config", symbols: Sequence[str], lexicon: Lexicon) -> None:
        super().__init__(config, symbols)
        self._lexicon = dict(lexicon)
        self._ids = {symbol: token for token, symbol in enumerate(symbols)}
        self._words: dict[tuple[str, ...], str] = {}
        for word, pronunciations in lexicon.items():
            for phones in pronunciations:
                self._words.setdefault(phones, word)

    def encode_word(self, word: str) -> list[int]:
        return self.pronunciations(word)[0]

    def pronunciations(self, word: str, segmentations: int = 1) -> list[list[int]]:
        if BOUNDARY + word in self._ids:  # a language tag
            return [[self._ids[BOUNDARY + word]]]
        phones = self._phones(word) or [(UNK_SYMBOL,)]
        return [[self._ids[phone] for phone in (BOUNDARY, *variant)] for variant in phones]

    def _phones(self, word: str) -> Sequence[tuple[str, ...]]:
        """The pronunciations of a word; none where there is none of known phones."""
        if word not in self._lexicon and self.config.espeak is not None:
            heard = espeak.pronounce(word, self.config.espeak)
            self._lexicon[word] = [heard] if heard and self._ids.keys() >= set(heard) else []
        return self._lexicon.get(word, [])

    def spell(self, units: Sequence[str]) -> str:
        return self._words.get(tuple(units)) or "-".join(units)

    def unknown(self, text: str) -> list[str]:
        return [word for word in dict.fromkeys(text.split()) if BOUNDARY + word not in self._ids and not self._phones(word)]

    @classmethod
    def train(cls, config: "PhoneTokenizer.Config", texts: Sequence[str]) -> "PhoneTokenizer":
        check_texts(texts)
        tags = language_tags(texts)
        counts = Counter(word for text in texts for word in text.split() if word not in tags)
        if config.lexicon is not None:
            source, lexicon = config.lexicon, read_lexicon(Path(config.lexicon))
        else:
            source = f"eSpeak NG's voice '{config.espeak}'"
            lexicon = {word: [heard] for word in sorted(counts) if (heard := espeak.pronounce(word, str(config.espeak)))}
        missing = missing_words(counts, lexicon)
        if missing and config.oov == "error":
            raise ValueError(explain_missing(missing, lexicon, source) + ", or set tokens.oov=unk")
        if missing:
            log.warning("%s", explain_missing(missing, lexicon, source))
        phones = sorted({phone for variants in lexicon.values() for variant in variants for phone in variant})
        reserved = [phone for phone in phones if phone in (BLANK_SYMBOL, UNK_SYMBOL) or phone.startswith((BOUNDARY, "#"))]
        if reserved:
            raise ValueError(f"{source}: these may not be phones, they have a meaning of their own here: {' '.join(reserved)}")
        by_frequency = {word: lexicon[word] for word in sorted(lexicon, key=lambda word: (-counts[word], word))}
        return cls(config, [BLANK_SYMBOL, UNK_SYMBOL, BOUNDARY, *phones, *(BOUNDARY + tag for tag in tags)], by_frequency)

    @classmethod
    def load(cls, config: "PhoneTokenizer.Config", directory: Path) -> "PhoneTokenizer":
        return cls(config, read_symbols(directory / "tokens.txt"), read_lexicon(directory / "pronunciations.txt"))

    def _save_model(self, directory: Path) -> None:
        write_lexicon({word: phones for word, phones in self._lexicon.items() if phones}, directory / "pronunciations.txt")
