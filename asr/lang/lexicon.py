"""From a lexicon to the transducer L, with and without disambiguation symbols.

Mohri, Pereira and Riley, "Speech recognition with weighted finite-state transducers", 2008, section 5.1: without the symbols, homophones
and words that begin other words would make L composed with a grammar impossible to determinise.
"""
from __future__ import annotations

from collections import Counter

import torch

from asr.lang.fst import FINAL, Fst

EPSILON = "<eps>"
WORD_DISAMBIG = "#0"
"""The word that marks the back-off arcs of a grammar; L lets the token #0 through for it."""

Pronunciations = dict[str, list[list[int]]]
"""The token sequences of each word."""


def add_disambiguation(lexicon: Pronunciations, first: int) -> tuple[Pronunciations, int]:
    """The lexicon with a symbol #1, #2, ... (token id ``first + 1``, ``first + 2``, ...) after each token sequence that several
    pronunciations share, or that begins another; and the highest number used (0 if none).
    """
    shared = Counter(tuple(tokens) for variants in lexicon.values() for tokens in variants)
    prefixes = {tokens[:n] for tokens in shared for n in range(1, len(tokens))}
    used: Counter[tuple[int, ...]] = Counter()
    marked: Pronunciations = {}
    for word, variants in lexicon.items():
        marked[word] = []
        for variant in variants:
            tokens = tuple(variant)
            if shared[tokens] > 1 or tokens in prefixes:
                used[tokens] += 1
                variant = [*variant, first + used[tokens]]
            marked[word].append(variant)
    return marked, max(used.values(), default=0)


def lexicon_fst(lexicon: Pronunciations, disambig: int | None = None) -> Fst:
    """L: any sequence of words, tokens in and words out. Word ids count from 1 in the lexicon's order.

    disambig: the token id of #0, for a lexicon with disambiguation symbols: L then passes it through to the word ``#0``.
    """
    arcs: list[tuple[int, int, int, int]] = []
    states = 1
    for word, variants in enumerate(lexicon.values(), 1):
        for tokens in variants:
            source = 0
            for place, token in enumerate(tokens):
                last = place == len(tokens) - 1
                destination = 0 if last else states
                states += not last
                arcs.append((source, destination, token, word if place == 0 else 0))
                source = destination
    if disambig is not None:
        arcs.append((0, 0, disambig, len(lexicon) + 1))
    arcs.append((0, states, FINAL, FINAL))
    return Fst.from_arcs(arcs, torch.zeros(len(arcs)))
