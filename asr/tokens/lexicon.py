"""Pronunciation lexicons in text form: one ``word unit unit ...`` a line, as CMUdict and Kaldi write them."""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.files import atomic_write

Lexicon = Mapping[str, Sequence[tuple[str, ...]]]
"""The pronunciations of each word, the preferred one first."""

_VARIANT = re.compile(r"(.+)\(\d+\)$")


def read_lexicon(path: Path) -> dict[str, list[tuple[str, ...]]]:
    """Reads a lexicon, in the file's order.

    Several pronunciations: the word again, or CMUdict's ``WORD(2)``. ``;;;`` at a line's begin and `` #`` begin a comment.
    Raises ValueError with file and line for a word without units, and for an empty or unreadable file.
    """
    lexicon: dict[str, list[tuple[str, ...]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such lexicon; set tokens.lexicon or lang.lexicon to a file of 'word unit unit ...' lines") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; convert it first (CMUdict 0.7 is Latin-1)") from None
    for number, line in enumerate(lines, 1):
        if line.startswith(";;;"):
            continue
        word, *units = re.split(r"\s#", line)[0].split() or [""]
        if not word:
            continue
        if not units:
            raise ValueError(f"{path}:{number}: the word '{word}' has no pronunciation; expected 'word unit unit ...'")
        if variant := _VARIANT.match(word):
            word = variant[1]
        pronunciations = lexicon.setdefault(word, [])
        if tuple(units) not in pronunciations:
            pronunciations.append(tuple(units))
    if not lexicon:
        raise ValueError(f"{path}: the lexicon is empty")
    return lexicon


def write_lexicon(lexicon: Lexicon, path: Path) -> None:
    with atomic_write(path) as file:
        file.writelines(f"{word} {' '.join(units)}\n" for word, variants in lexicon.items() for units in variants)


def missing_words(words: Iterable[str], lexicon: Mapping[str, object]) -> list[str]:
    """The distinct words without an entry, in order of appearance."""
    return [word for word in dict.fromkeys(words) if word not in lexicon]


def explain_missing(missing: Sequence[str], lexicon: Mapping[str, object], source: str) -> str:
    """One line naming the words that ``source`` lacks, and the likely remedy."""
    some = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
    for case in (str.lower, str.upper):
        if sum(case(word) in lexicon for word in missing) > len(missing) / 2:
            return f"{source}: {len(missing)} words are written in another case there ({some}); normalise the texts' case to the lexicon's"
    return f"{source}: no pronunciation for {len(missing)} words: {some}; add them to the lexicon"
