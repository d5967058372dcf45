"""Subword grammars: a word is prefixes, a stem and suffixes, so that a graph of few units accepts words that no text has had.

Units have the mark ``‿`` where they are joined: ``un‿ happi ‿ness``. An n-gram over units tells which follow which. Madhavaraj, Pilar and
Ramakrishnan, "Knowledge-driven subword grammar modeling for automatic speech recognition in Tamil and Kannada", 2022; units that are marked
by their place: Smit, Virpioja and Kurimo, "Improved subword modeling for WFST-based speech recognition", Interspeech 2017.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from asr.config import Config
from asr.lang.lexicon import JOINT
from asr.types import LANGUAGE_TAG

ROUNDS = 5
"""Of segmenting all words and counting units again; words change little from then on."""


class SubwordConfig(Config):
    """prefixes, suffixes: files with one a line; learnt where they are null. stems: a file of more stems than the words of the texts have.
    min_stem: letters that a stem has at least, but a word without affix. max_affix: letters that a learnt affix has at most.
    min_words: words that begin, or end, with a learnt affix, at least; 0 for no learnt affixes.
    """

    prefixes: str | None = None
    suffixes: str | None = None
    stems: str | None = None
    min_stem: int = Field(default=3, ge=1)
    max_affix: int = Field(default=6, ge=1)
    min_words: int = Field(default=10, ge=0)

    @property
    def files(self) -> list[Path]:
        return [Path(file) for file in (self.prefixes, self.suffixes, self.stems) if file is not None]


class Subwords:
    """costs: of each unit; a word is cut into those of the lowest sum.
    new_stem: cost of a stem that is not among them, by its number of letters; null where there are no others.
    """

    def __init__(self, costs: Mapping[str, float], min_stem: int, new_stem: tuple[float, float] | None = None) -> None:
        self.costs, self._min_stem, self._new_stem = costs, min_stem, new_stem

    def split(self, word: str) -> tuple[str, ...]:
        """The units of a word; the word itself where they cannot make it."""
        nothing: tuple[float, tuple[str, ...]] = (math.inf, ())
        before = [(0.0, nothing[1]), *[nothing] * len(word)]  # of each beginning of the word: prefixes alone, and all up to some suffix
        after = [nothing] * (len(word) + 1)
        for end in range(1, len(word) + 1):
            for begin in range(end):
                part = word[begin:end]
                for left, right, unit in ((before, before, part + JOINT), (after, after, JOINT + part), (before, after, part)):
                    cost, units = left[begin]
                    if cost < math.inf and (total := cost + self._cost(unit, word)) < math.inf:
                        right[end] = min(right[end], (total, (*units, unit)))
        return after[-1][1] or (word,)

    def _cost(self, unit: str, word: str) -> float:
        if JOINT not in unit:
            if len(unit) < self._min_stem and unit != word:
                return math.inf
            if self._new_stem is not None and unit not in self.costs:
                return self._new_stem[0] + self._new_stem[1] * len(unit)
        return self.costs.get(unit, math.inf)

    @classmethod
    def learn(cls, words: Iterable[str], config: SubwordConfig) -> "Subwords":
        """Units by which a list of the words, and of what they are made of, is short: each word is cut anew by the units' costs, which
        are their information, and their letters shared among the words that have them (after Creutz and Lagus, "Unsupervised discovery
        of morphemes", 2002). Raises ValueError for words with the mark, and for files that cannot be read.
        """
        words = sorted(set(words))
        if marked := [word for word in words if JOINT in word]:
            raise ValueError(f"the texts contain {JOINT} (U+203F), which joins units: {' '.join(marked[:5])}; let normalisation remove it")
        tags = {word: 0.0 for word in words if LANGUAGE_TAG.fullmatch(word)}
        words = [word for word in words if word not in tags]
        prefixes, suffixes, stems = (None if file is None else _read(file) for file in (config.prefixes, config.suffixes, config.stems))
        given = [*(p + JOINT for p in prefixes or ()), *(JOINT + s for s in suffixes or ()), *(stems or ())]
        counts = Counter(given)
        if prefixes is None:
            counts.update(_frequent((word[:i] + JOINT for word in words for i in _places(word, config)), config))
        if suffixes is None:
            counts.update(_frequent((JOINT + word[-i:] for word in words for i in _places(word, config)), config))
        counts.update([stem for word in words for stem in _stems(word, counts, config)])
        letters = math.log(max(2, len(set("".join(words)))))
        for _ in range(ROUNDS):
            total = sum(counts.values()) + len(words)
            learnt = cls(_costs(counts, total, letters), config.min_stem, (math.log(total), letters))
            counts = Counter(dict.fromkeys(given, 1))
            counts.update(unit for word in words for unit in learnt.split(word))
        return cls({**_costs(counts, counts.total(), letters), **tags}, config.min_stem)


def _costs(counts: Counter[str], total: int, letters: float) -> dict[str, float]:
    return {unit: round(math.log(total / n) + letters * len(unit.strip(JOINT)) / n, 4) for unit, n in sorted(counts.items())}


def _stems(word: str, affixes: Counter[str], config: SubwordConfig) -> Iterator[str]:
    """What is left of a word without a prefix, a suffix, or both."""
    begins = [0, *(i for i in _places(word, config) if word[:i] + JOINT in affixes)]
    ends = [len(word), *(len(word) - i for i in _places(word, config) if JOINT + word[-i:] in affixes)]
    return (word[i:j] for i in begins for j in ends if j - i >= config.min_stem)


def _places(word: str, config: SubwordConfig) -> range:
    return range(1, min(config.max_affix, len(word) - config.min_stem) + 1)


def _frequent(affixes: Iterator[str], config: SubwordConfig) -> dict[str, int]:
    return {affix: n for affix, n in Counter(affixes).items() if 0 < config.min_words <= n}


def _read(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"lang.subwords: {file} cannot be read as UTF-8 text: {error}") from None


def hubs(unit: str, begins: bool) -> Sequence[tuple[int, int]]:
    """Between which places of a sentence a unit may stand: 0 is its start, 1 after a stem or a suffix, 2 after a prefix.

    begins: whether it is spelled as the beginning of a word.
    """
    after = 2 if unit.endswith(JOINT) else 1
    if unit.startswith(JOINT):
        return [(1, 1)]
    return [(0, after), (1, after)] if begins else [(2, after)]
