"""What every tokenizer does. A word is spelled by its units, and its first unit carries or follows the boundary mark ``▁``.

So the encoding of a text is the concatenation of its words' encodings, whatever the units are: a lexicon is
``{word: encode(word)}``, and words can be cut out of any token sequence.
"""
from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from asr.config import dump_config
from asr.files import atomic_write
from asr.types import BLANK, LANGUAGE_TAG

BLANK_SYMBOL = "<blk>"
UNK_SYMBOL = "<unk>"
BOUNDARY = "▁"
"""Begins every word; U+2581, as in sentencepiece. Reserved: a text that contains it has an unknown character."""


class WordSpan(NamedTuple):
    """``ids[first:end]`` spells ``word``; a boundary mark that stands alone belongs to no word."""

    word: str
    first: int
    end: int


class Tokenizer(ABC):
    """Text to token ids and back.

    symbols: the symbol of every id; id 0 is ``<blk>``, and ``<unk>`` is one of the others.
    units: what every id spells, the same but where tokens of two languages spell the same.
    A text is words separated by whitespace; how much and which whitespace is not kept.
    """

    def __init__(self, config: Any, symbols: Sequence[str]) -> None:
        assert symbols[BLANK] == BLANK_SYMBOL and UNK_SYMBOL in symbols, symbols[:3]
        assert len(set(symbols)) == len(symbols), "two tokens with one symbol"
        self.config = config
        self.symbols = list(symbols)
        self.units = self.symbols
        self.unk_id = self.symbols.index(UNK_SYMBOL)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, blank included."""
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, without blanks; what :meth:`unknown` reports becomes ``<unk>``."""
        return [token for word in text.split() for token in self.encode_word(word)]

    def decode(self, ids: Sequence[int]) -> str:
        """The words of a token sequence (any sequence, not only one that :meth:`encode` gives), joined by single spaces."""
        return " ".join(span.word for span in self.word_spans(ids))

    def word_spans(self, ids: Sequence[int]) -> list[WordSpan]:
        """The words of a token sequence with the range of tokens that spells each: disjoint, in order, never empty."""
        spans = []
        first = end = 0
        for index, token in enumerate(ids):
            symbol = self.units[token]
            if symbol.startswith(BOUNDARY):
                if first < end:
                    spans.append(self._span(ids, first, end))
                first = index + 1 if symbol == BOUNDARY else index
            end = index + 1
        if first < end:
            spans.append(self._span(ids, first, end))
        return spans

    def _span(self, ids: Sequence[int], first: int, end: int) -> WordSpan:
        units = [self.units[token] for token in ids[first:end]]
        units[0] = units[0].removeprefix(BOUNDARY)
        return WordSpan(self.spell(units), first, end)

    def spell(self, units: Sequence[str]) -> str:
        """The word that a non-empty sequence of units makes."""
        return "".join(units)

    def pronunciations(self, word: str, segmentations: int = 1) -> list[list[int]]:
        """All token sequences that stand for ``word``, the one of :meth:`encode` first.

        segmentations: into how many sequences of pieces, at most, the same letters are cut, where there are pieces.
        """
        return [self.encode_word(word)]

    def spellings(self, text: str, n: int) -> list[list[int]]:
        """At most ``n`` token sequences whose units joined are ``text``, a part of a word or the mark and a word: the cheapest first."""
        ids, costs = self._pieces_and_costs
        longest = max(map(len, ids))
        best: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, ())]]  # of each beginning of the text
        for end in range(1, len(text) + 1):
            last = [(begin, ids[text[begin:end]]) for begin in range(max(0, end - longest), end) if text[begin:end] in ids]
            found = ((cost + costs[token], (*tokens, token)) for begin, token in last for cost, tokens in best[begin])
            best.append(heapq.nsmallest(n, found))
        return [list(tokens) for _, tokens in best[-1]]

    @cached_property
    def _pieces_and_costs(self) -> tuple[dict[str, int], list[float]]:
        ids = {unit: token for token, unit in enumerate(self.units) if token not in (BLANK, self.unk_id)}
        return ids, self.costs()

    def costs(self) -> list[float]:
        """What each token adds to the cost of a segmentation: by default all the same, so that few long pieces are preferred."""
        return [1.0] * self.vocab_size

    @abstractmethod
    def encode_word(self, word: str) -> list[int]:
        """Token ids of one word (no whitespace in it)."""

    @abstractmethod
    def unknown(self, text: str) -> list[str]:
        """The distinct parts of ``text`` that have no token (characters, or words without pronunciation), in order of appearance."""

    @classmethod
    @abstractmethod
    def train(cls, config: Any, texts: Sequence[str]) -> "Tokenizer":
        """Builds the vocabulary from ``texts``; deterministic. Raises ValueError where they do not allow what ``config`` asks for."""

    @classmethod
    @abstractmethod
    def load(cls, config: Any, directory: Path) -> "Tokenizer":
        """Reads what :meth:`save` wrote."""

    def save(self, directory: Path) -> None:
        """Writes ``tokens.txt`` (symbol and id, for people and other programs), ``tokenizer.yaml`` and what the type needs besides.

        The directory may hold other files too; these alone, copied anywhere, make the same tokenizer.
        """
        self._save_model(directory)
        with atomic_write(directory / "tokens.txt") as file:
            file.writelines(f"{symbol} {token}\n" for token, symbol in enumerate(self.symbols))
        dump_config(self.config, directory / "tokenizer.yaml")

    def _save_model(self, directory: Path) -> None:  # noqa: B027 - optional
        """Files beyond tokens.txt and tokenizer.yaml; none by default."""


def read_symbols(path: Path) -> list[str]:
    """The symbols of a ``tokens.txt`` or ``words.txt``: one ``symbol id`` a line, ids counting from 0."""
    symbols = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            fields = line.split()
            if len(fields) != 2 or fields[1] != str(number):
                raise ValueError(f"{path}:{number + 1}: expected a symbol and the id {number}, got {line.strip()!r}")
            symbols.append(fields[0])
    return symbols


def language_tags(texts: Sequence[str]) -> list[str]:
    """The language tags that occur in ``texts``, sorted: words that are one token each."""
    return sorted({word for text in texts if "<lang:" in text for word in text.split() if LANGUAGE_TAG.fullmatch(word)})


def check_texts(texts: Sequence[str]) -> None:
    """Refuses texts that no vocabulary can be made of."""
    if not any(text.strip() for text in texts):
        raise ValueError("there is no text to train a tokenizer on: every transcript is empty")
    for text in texts:
        if BOUNDARY in text:
            raise ValueError(f"the text {text!r} contains '{BOUNDARY}' (U+2581), the mark of word boundaries; let normalisation remove it")
