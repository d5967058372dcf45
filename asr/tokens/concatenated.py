"""Several languages, each with a vocabulary of its own, one behind the other.

A text says by tags (``<lang:sw> habari ya asubuhi``) in which language its words are; a tag is a token, too, so a model that learns
the text learns to tell the language. Tokens that two languages have in common are two tokens.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.phone import PhoneTokenizer
from asr.tokens.tokenizer import BLANK_SYMBOL, BOUNDARY, UNK_SYMBOL, Tokenizer, WordSpan, check_texts
from asr.types import LANGUAGE_TAG, language_tag

log = logging.getLogger(__name__)

MONOLINGUAL: dict[str, type[Tokenizer]] = {"char": CharTokenizer, "bpe": BpeTokenizer, "phone": PhoneTokenizer}

SEPARATOR = "@"
"""Between what a token spells and its language, in its symbol: ``▁ha@sw``."""


class ConcatenatedTokenizer(Tokenizer):
    """Ids: ``<blk>``, ``<unk>``, the tags, then the tokens of each language in turn, without its own ``<blk>`` and ``<unk>``.

    A word that stands alone, as in a lexicon, is of every language that can spell it.
    """

    class Config(BaseConfig):
        """languages: the tokenizer of each language, by the language that the corpus gives its utterances."""

        type: Literal["concatenated"] = "concatenated"
        languages: dict[str, one_of(MONOLINGUAL)] = Field(min_length=1)  # type: ignore[valid-type]

        @field_validator("languages")
        @classmethod
        def _tags_are_words(cls, languages: dict[str, Any]) -> dict[str, Any]:
            for language in languages:
                if not LANGUAGE_TAG.fullmatch(language_tag(language)):
                    raise ValueError(f"'{language}' is no name of a language: no spaces, '<' and '>', and not empty")
            return languages

        @property
        def name(self) -> str:
            return "_".join(["concatenated", *(f"{language}_{config.name}" for language, config in self.languages.items())])

    def __init__(self, config: "ConcatenatedTokenizer.Config", tokenizers: Mapping[str, Tokenizer]) -> None:
        units = [BLANK_SYMBOL, UNK_SYMBOL, *(BOUNDARY + language_tag(language) for language in tokenizers)]
        symbols = list(units)
        self._tokenizers = tokenizers
        self._tags = {language_tag(language): len(units) - len(tokenizers) + k for k, language in enumerate(tokenizers)}
        self._ids: dict[str, list[int]] = {}
        self._language_of: list[str | None] = [None] * len(units)
        for language, tokenizer in tokenizers.items():
            ids = []
            for token, unit in enumerate(tokenizer.units):
                if token in (0, tokenizer.unk_id):
                    ids.append(min(token, 1))
                    continue
                ids.append(len(units))
                units.append(unit)
                symbols.append(f"{unit}{SEPARATOR}{language}")
            self._ids[language] = ids
            self._language_of += [language] * (len(units) - len(self._language_of))
        super().__init__(config, symbols)
        self.units = units

    def encode(self, text: str) -> list[int]:
        return [token for language, word in self._words(text) for token in self._encode(language, word)]

    def encode_word(self, word: str) -> list[int]:
        return self.pronunciations(word)[0]

    def pronunciations(self, word: str, segmentations: int = 1) -> list[list[int]]:
        if word in self._tags:
            return [[self._tags[word]]]
        able = [language for language, tokenizer in self._tokenizers.items() if not tokenizer.unknown(word)]
        return [
            [self._ids[language][token] for token in variant]
            for language in able for variant in self._tokenizers[language].pronunciations(word, segmentations)
        ] or [[self.unk_id]]

    def unknown(self, text: str) -> list[str]:
        found: dict[str, None] = {}
        for language, word in self._words(text):
            if LANGUAGE_TAG.fullmatch(word):
                found.update({} if word in self._tags else {word: None})
            elif language is not None:
                found.update(dict.fromkeys(self._tokenizers[language].unknown(word)))
            elif all(tokenizer.unknown(word) for tokenizer in self._tokenizers.values()):
                found[word] = None
        return list(found)

    def _words(self, text: str) -> Iterator[tuple[str | None, str]]:
        """Words, tags among them, with their languages; None where it is not known."""
        language = None
        for word in text.split():
            if match := LANGUAGE_TAG.fullmatch(word):
                language = match[1] if word in self._tags else None
            yield language, word

    def _encode(self, language: str | None, word: str) -> list[int]:
        if language is None or word in self._tags:
            return self.encode_word(word)
        return [self._ids[language][token] for token in self._tokenizers[language].encode_word(word)]

    def _span(self, ids: Sequence[int], first: int, end: int) -> WordSpan:
        language = self._language_of[ids[first]]
        units = [self.units[token] for token in ids[first:end]]
        units[0] = units[0].removeprefix(BOUNDARY)
        word = "".join(units) if language is None else self._tokenizers[language].spell(units)
        return WordSpan(word, first, end)

    @classmethod
    def train(cls, config: "ConcatenatedTokenizer.Config", texts: Sequence[str]) -> "ConcatenatedTokenizer":
        check_texts(texts)
        by_language: dict[str | None, list[str]] = {language: [] for language in config.languages}
        untagged = 0
        for text in texts:
            if not LANGUAGE_TAG.match(text):
                untagged += 1
                continue
            pieces = LANGUAGE_TAG.split(text)
            for language, words in zip(pieces[1::2], pieces[2::2]):
                by_language.setdefault(language, []).append(words)
        if untagged == len(texts):
            raise ValueError("no text says of which language it is: set corpus.language_tags: true, and make the manifests again")
        if untagged:
            log.warning("%d of %d texts do not say of which language they are, and are left out", untagged, len(texts))
        if unknown := sorted(str(language) for language in by_language if language not in config.languages):
            raise ValueError(f"tokens.languages: the texts are in {', '.join(unknown)}, too; name a tokenizer for each language")
        if empty := sorted(str(language) for language, found in by_language.items() if not any(words.strip() for words in found)):
            raise ValueError(f"tokens.languages: there is no text in {', '.join(empty)}; the texts are in "
                             f"{', '.join(sorted(str(language) for language in by_language if language not in empty))}")
        return cls(config, {
            language: MONOLINGUAL[inner.type].train(inner, by_language[language]) for language, inner in config.languages.items()
        })

    @classmethod
    def load(cls, config: "ConcatenatedTokenizer.Config", directory: Path) -> "ConcatenatedTokenizer":
        return cls(config, {
            language: MONOLINGUAL[inner.type].load(inner, directory / language) for language, inner in config.languages.items()
        })

    def _save_model(self, directory: Path) -> None:
        for language, tokenizer in self._tokenizers.items():
            tokenizer.save(directory / language)
