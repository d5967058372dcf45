"""From a lexicon to the transducer L, with and without disambiguation symbols.

Mohri, Pereira and Riley, "Speech recognition with weighted finite-state transducers", 2008, section 5.1: without the symbols, homophones
and words that begin other words would make L composed with a grammar impossible to determinise. Unknown words are spelled by a loop over
the tokens, with a symbol of its own before and after: beside the lexicon's tree, not mixed with it, which would give every node of the
tree an arc for every token.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asr.lang.fst import FINAL, Fst

EPSILON = "<eps>"
WORD_DISAMBIG = "#0"
"""The word that marks the back-off arcs of a grammar; L lets the token #0 through for it."""
SPELLED = "<spelled>"
"""The word that stands, in a graph, for one out of the lexicon that is to be written as its tokens spell it."""
JOINT = "‿"
"""Where a unit of a word is joined to the unit before or after it; U+203F."""

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


@dataclass(frozen=True)
class UnknownWords:
    """first: tokens that begin a word; rest: the others; boundary: the one of the first that spells nothing, if any.
    symbol: before and after an unknown word, 0 for none. log_prob: of an unknown word, besides what the grammar says of it.
    """

    first: Sequence[int]
    rest: Sequence[int]
    boundary: int | None
    symbol: int
    log_prob: float


def lexicon_fst(
    lexicon: Pronunciations, disambig: int | None = None, unknown: UnknownWords | None = None,
    hubs: Callable[[str, list[int]], Sequence[tuple[int, int]]] = lambda word, tokens: [(0, 0)],
) -> Fst:
    """L: any sequence of words, tokens in and words out. Word ids count from 1 in the lexicon's order, then the unknown word's.

    disambig: the token id of #0, for a lexicon with disambiguation symbols: L then passes it through to the word ``#0``.
    hubs: between which states each of a word's token sequences may stand; sentences begin in 0 and end in 0 or 1.
    """
    entries = [(number, tokens, pair) for number, (word, variants) in enumerate(lexicon.items(), 1)
               for tokens in variants for pair in hubs(word, tokens)]
    states = 1 + max(hub for _, _, pair in entries for hub in pair)
    all_hubs, ends = range(states), range(min(states, 2))
    arcs: list[tuple[int, int, int, int]] = []
    scores: dict[int, float] = {}
    for word, tokens, (begin, end) in entries:
        source = begin
        for place, token in enumerate(tokens):
            last = place == len(tokens) - 1
            destination = end if last else states
            states += not last
            arcs.append((source, destination, token, word if place == 0 else 0))
            source = destination
    words = len(lexicon)
    if unknown is not None:
        words, begun, bare, spelled = words + 1, states, states + 1, states + 2
        states += 3
        scores = {len(arcs) + hub: unknown.log_prob for hub in ends}
        arcs += [(hub, begun, unknown.symbol, words) for hub in ends]
        arcs += [(begun, bare if token == unknown.boundary else spelled, token, 0) for token in unknown.first]
        arcs += [(state, spelled, token, 0) for state in (bare, spelled) for token in unknown.rest]
        arcs.append((spelled, ends[-1], unknown.symbol, 0))
    if disambig is not None:
        arcs += [(hub, hub, disambig, words + 1) for hub in all_hubs]
    arcs += [(hub, states, FINAL, FINAL) for hub in ends]
    return Fst.from_arcs(arcs, [scores.get(arc, 0.0) for arc in range(len(arcs))])
