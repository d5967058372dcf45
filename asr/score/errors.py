"""Substitutions, deletions and insertions between a reference and a hypothesis, in words, in characters, and in mixed units."""
from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import kaldialign
import numpy as np

from asr.hypotheses import Utterance
from asr.types import LANGUAGE_TAG, split_language

Alignment = tuple[tuple[str | None, str | None], ...]
"""Pairs of a reference word and a hypothesis word; None for the missing side of a deletion or an insertion."""

_CJK = re.compile(r"([\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff])")
"""Han ideographs and kana: the characters that a mixed error rate counts one by one."""

_GAP = "\0"  # cannot be a word: words are read from JSON text split at white space


@dataclass(frozen=True)
class Counts:
    """Errors against ``length`` reference symbols, with the fewest edits, each costing 1."""

    length: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per reference symbol; infinite where there are errors but no reference."""
        if self.length:
            return self.errors / self.length
        return float("inf") if self.errors else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.length + other.length, self.substitutions + other.substitutions,
                      self.deletions + other.deletions, self.insertions + other.insertions)


@dataclass(frozen=True)
class ScoredUtterance:
    """An utterance with its word alignment and its counts of words, characters and :func:`mixed_units`.

    language, heard_language: of the tags that begin reference and hypothesis, which are no words; None where there is none.
    """

    utterance: Utterance
    alignment: Alignment
    words: Counts
    characters: Counts
    mixed: Counts
    language: str | None = None
    heard_language: str | None = None


@dataclass(frozen=True)
class Scored:
    """A decoded set."""

    utterances: tuple[ScoredUtterance, ...]

    @property
    def words(self) -> Counts:
        return sum((u.words for u in self.utterances), Counts())

    @property
    def characters(self) -> Counts:
        return sum((u.characters for u in self.utterances), Counts())

    @property
    def mixed(self) -> Counts | None:
        """In mixed units; None where no reference has a CJK character, since these are the words then."""
        if not any(_CJK.search(u.utterance.ref) for u in self.utterances):
            return None
        return sum((u.mixed for u in self.utterances), Counts())

    @property
    def oracle(self) -> Counts | None:
        """In words, of the hypothesis with the fewest errors in each n-best list; None where there are no lists."""
        if not any(u.utterance.nbest for u in self.utterances):
            return None
        best = [u.words for u in self.utterances]
        for place, scored in enumerate(self.utterances):
            reference = scored.utterance.ref.split()
            for candidate in scored.utterance.nbest[1:]:
                counts = count(align(reference, split_language(candidate.hyp)[1].split()))
                best[place] = min(best[place], counts, key=lambda c: c.errors)
        return sum(best, Counts())

    @property
    def languages(self) -> Counts | None:
        """Utterances whose language the reference tells; a wrong one is a substitution, none at all a deletion. None without such."""
        pairs = tuple((u.language, u.heard_language) for u in self.utterances if u.language is not None)
        return count(pairs) if pairs else None

    @property
    def errors_N(self) -> np.ndarray:
        """int64 (N,), word errors of each utterance."""
        return np.array([u.words.errors for u in self.utterances], dtype=np.int64)

    @property
    def lengths_N(self) -> np.ndarray:
        """int64 (N,), reference words of each utterance."""
        return np.array([u.words.length for u in self.utterances], dtype=np.int64)

    def by_language(self) -> dict[str, list[ScoredUtterance]]:
        """Utterances of each language that references tell, sorted by its name."""
        languages: dict[str, list[ScoredUtterance]] = {}
        for scored in sorted((u for u in self.utterances if u.language is not None), key=lambda u: str(u.language)):
            languages.setdefault(str(scored.language), []).append(scored)
        return languages

    def by_speaker(self) -> dict[str, list[ScoredUtterance]]:
        """Utterances of each speaker, in order of first appearance; those without one are left out."""
        speakers: dict[str, list[ScoredUtterance]] = {}
        for scored in self.utterances:
            if scored.utterance.speaker is not None:
                speakers.setdefault(scored.utterance.speaker, []).append(scored)
        return speakers


def score(utterances: Iterable[Utterance]) -> Scored:
    """Raises ValueError where there is not one reference word to score against."""
    scored = Scored(tuple(score_utterance(utterance) for utterance in utterances))
    if scored.words.length == 0:
        raise ValueError("no reference word in any utterance: an error rate means nothing here; check the transcripts of the split")
    return scored


def score_utterance(utterance: Utterance) -> ScoredUtterance:
    (language, ref), (heard_language, hyp) = split_language(utterance.ref), split_language(utterance.hyp)
    if language is not None or heard_language is not None:
        spoken = tuple(word for word in utterance.words if not LANGUAGE_TAG.fullmatch(word.text))
        utterance = replace(utterance, ref=ref, hyp=hyp, words=spoken)
    alignment = align(utterance.ref.split(), utterance.hyp.split())
    words, characters = count(alignment), count(align(_characters(utterance.ref), _characters(utterance.hyp)))
    has_cjk = _CJK.search(utterance.ref) or _CJK.search(utterance.hyp)
    mixed = count(align(mixed_units(utterance.ref), mixed_units(utterance.hyp))) if has_cjk else words
    return ScoredUtterance(utterance, alignment, words, characters, mixed, language, heard_language)


def align(ref: Sequence[str], hyp: Sequence[str]) -> Alignment:
    """An alignment of least edit distance (Levenshtein, every edit costs 1)."""
    pairs = kaldialign.align(ref, hyp, _GAP)
    return tuple((None if r == _GAP else r, None if h == _GAP else h) for r, h in pairs)


def count(alignment: Alignment) -> Counts:
    deletions = sum(h is None for _, h in alignment)
    insertions = sum(r is None for r, _ in alignment)
    differing = sum(r != h for r, h in alignment)
    return Counts(len(alignment) - insertions, differing - deletions - insertions, deletions, insertions)


def mixed_units(text: str) -> list[str]:
    """What the mixed error rate (MER) of code-switched speech counts: each CJK character, and the words of other scripts."""
    return _CJK.sub(r" \1 ", unicodedata.normalize("NFC", text)).split()


def _characters(text: str) -> list[str]:
    """Code points after canonical composition, white space left out: a wrong word boundary alone is no character error."""
    return list("".join(unicodedata.normalize("NFC", text).split()))
