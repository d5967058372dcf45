"""The language directory: words, their token sequences, and the graphs made from them."""
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from asr.config import Config
from asr.files import atomic_write
from asr.lang.fst import Fst
from asr.lang.lexicon import (
    EPSILON,
    JOINT,
    SPELLED,
    WORD_DISAMBIG,
    Pronunciations,
    UnknownWords,
    add_disambiguation,
    lexicon_fst,
)
from asr.lang.subwords import SubwordConfig, Subwords, hubs
from asr.lm.ngram import UNK
from asr.tokens import BOUNDARY, Tokenizer
from asr.tokens.lexicon import explain_missing, missing_words, read_lexicon
from asr.tokens.tokenizer import BLANK_SYMBOL, read_symbols
from asr.types import LANGUAGE_TAG

log = logging.getLogger(__name__)

Topology = Literal["standard", "modified"]
Engine = Literal["auto", "k2", "openfst"]

RESERVED = (EPSILON, WORD_DISAMBIG, SPELLED, "<s>", "</s>")

SUBWORDS = "subwords.txt"
"""Of a subword grammar: the letters that a stem has at least, then the units and their costs."""


class UnknownConfig(Config):
    """Words out of the lexicon, spelled by any tokens, in the graphs.

    log_prob: natural log-probability of such a word, besides that of the n-gram's ``<unk>``: the lower, the fewer.
    output: what is written, the word that the tokens spell, or ``<unk>``.
    """

    log_prob: float = -5.0
    output: Literal["spelling", "symbol"] = "spelling"


class LangConfig(Config):
    """lexicon: a file of ``word unit unit ...`` lines, its units being symbols of the tokenizer; all its words are taken.
        Without one, the tokenizer spells the words of the training transcripts and of the texts for the n-gram.
    oov: what a word of these texts without a spelling means: an error that names it, or that it is left out (and the n-gram's <unk>).
    segmentations: sequences of pieces by which a word may be reached, at most, where the tokenizer has pieces; the best one counts.
    unknown: words out of the lexicon in the graphs; null for none. subwords: a grammar of prefixes, stems and suffixes in place of words.
    topology: of CTC in HLG: "standard", or "modified" (a repeated token needs no blank between, which makes much smaller graphs).
    engine: what composes and determinises the graphs; "auto" is k2 where it is installed, else OpenFst.
    graph_order: orders of the n-gram that go into the graphs, by default all; the others are for second passes, or, over unigrams,
        for on-the-fly composition in the search (``ngram`` of ctc_graph).
    memory_limit: GiB that composing them may take; by default what is available then.
    """

    lexicon: str | None = None
    oov: Literal["error", "skip"] = "error"
    segmentations: int = Field(default=1, ge=1)
    unknown: UnknownConfig | None = None
    subwords: SubwordConfig | None = None
    topology: Topology = "standard"
    engine: Engine = "auto"
    graph_order: int | None = Field(default=None, ge=1)
    memory_limit: float | None = Field(default=None, gt=0)

    @property
    def files(self) -> list[Path]:
        """That the lexicon is made of."""
        return [*([] if self.lexicon is None else [Path(self.lexicon)]), *([] if self.subwords is None else self.subwords.files)]

    @model_validator(mode="after")
    def _units_are_spelled(self) -> "LangConfig":
        if self.subwords is not None and self.lexicon is not None:
            raise ValueError("units of a subword grammar are spelled by their letters: leave out either lexicon or subwords")
        return self


class Lang:
    """Read access to a language directory.

    words: the symbol of each word id: ``<eps>``, the words (units, in a subword grammar), the unknown word where there is one, ``#0``.
    lexicon: the token sequences of each word, the preferred one first.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    @cached_property
    def words(self) -> list[str]:
        return read_symbols(self._existing("words.txt"))

    @cached_property
    def tokens(self) -> list[str]:
        return read_symbols(self._existing("tokens.txt"))

    @cached_property
    def word_ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def lexicon(self) -> Pronunciations:
        ids = {symbol: token for token, symbol in enumerate(self.tokens)}
        path = self._existing("lexicon.txt")
        lexicon: Pronunciations = {}
        with open(path, encoding="utf-8") as file:
            for line in file:
                word, *units = line.split()
                lexicon.setdefault(word, []).append([ids[unit] for unit in units])
        return lexicon

    @cached_property
    def subwords(self) -> Subwords | None:
        """The subword grammar, where the directory has one."""
        path = self.directory / SUBWORDS
        if not path.exists():
            return None
        min_stem, *rows = path.read_text(encoding="utf-8").splitlines()
        return Subwords({unit: float(cost) for unit, cost in map(str.split, rows)}, int(min_stem))

    def split(self, text: str) -> list[str]:
        """What the grammar counts as words: those of the text, or their units."""
        words = text.split()
        return words if self.subwords is None else [unit for word in words for unit in self.subwords.split(word)]

    def spell(self, words: Sequence[str]) -> list[int]:
        """The tokens of words of the lexicon, by the preferred spelling of each in its place."""
        tokens: list[int] = []
        inside = False
        for word in words:
            inside = inside or word.startswith(JOINT)
            tokens += next((v for v in self.lexicon[word] if self.tokens[v[0]].startswith(BOUNDARY) != inside), self.lexicon[word][0])
            inside = word.endswith(JOINT)
        return tokens

    @property
    def vocabulary(self) -> list[str]:
        """The words of the lexicon."""
        return self.words[1 : -1 if self.unknown is None else -2]

    @property
    def unknown(self) -> int | None:
        """The id of the word that stands for those out of the lexicon, where the graphs have any."""
        return len(self.words) - 2 if self.words[-2] in (SPELLED, UNK) else None

    @cached_property
    def unknown_log_prob(self) -> float:
        """Natural log-probability of an unknown word besides the n-gram's; 0 where there are none."""
        if self.unknown is None:
            return 0.0
        lexicon = self.fst("L")
        return float(lexicon.scores_A[lexicon.outputs == self.unknown][0])

    def fst(self, name: str) -> Fst:
        """The graph ``name`` (L, L_disambig, G, LG, HLG) as tensors."""
        return Fst.load(self.directory / f"{name}.pt")

    def graph(self, name: str) -> Any:
        """The graph ``name`` as a k2.Fsa. Raises ValueError where there is no k2 or no such graph."""
        return self.fst(name).to_k2()

    def _existing(self, name: str) -> Path:
        path = self.directory / name
        if not path.exists():
            raise ValueError(f"{path}: no such file; run the recipe's stages 3 and 4 (local/train_tokens.py, local/prepare_lang.py)")
        return path


def make_lexicon(config: LangConfig, tokenizer: Tokenizer, texts: Iterable[str], subwords: Subwords | None = None) -> Pronunciations:
    """The words and their token sequences, sorted by word; in a subword grammar, of its units.

    Raises ValueError naming words that cannot be spelled, units of a lexicon file that are no tokens, and reserved words.
    """
    seen = sorted({word for text in texts for word in text.split()})
    if subwords is not None:
        seen = list(subwords.costs)
    if config.lexicon is None:
        if subwords is not None:
            lexicon = {unit: variants for unit in seen if (variants := _spelled_unit(unit, tokenizer, config.segmentations))}
        else:
            lexicon = {word: tokenizer.pronunciations(word, config.segmentations) for word in seen if not tokenizer.unknown(word)}
        missing = missing_words(seen, lexicon)
        problem = f"the tokenizer cannot spell {len(missing)} words: {', '.join(missing[:10])}{' ...' if len(missing) > 10 else ''}"
    else:
        lexicon = _spelled_by_file(Path(config.lexicon), tokenizer)
        missing = missing_words(seen, lexicon)
        problem = explain_missing(missing, lexicon, config.lexicon) if missing else ""
    if missing and config.oov == "error":
        raise ValueError(f"{problem}; or set lang.oov=skip to leave these words out")
    if missing:
        log.warning("%s; left out", problem)
    marked = [word for word in lexicon if JOINT in word] if subwords is None else []
    if reserved := [*(word for word in (*RESERVED, *([UNK] if config.unknown else [])) if word in lexicon), *marked[:5]]:
        raise ValueError(f"the texts or the lexicon contain {', '.join(reserved)} as words, which have a meaning of their own here")
    if not lexicon:
        raise ValueError("there are no words to make a lexicon of: the texts are empty")
    return dict(sorted(lexicon.items()))


def _spelled_by_file(path: Path, tokenizer: Tokenizer) -> Pronunciations:
    """A lexicon file in tokens; each word's first unit is preceded by the boundary mark unless it bears it."""
    ids = {symbol: token for token, symbol in enumerate(tokenizer.symbols)}
    lexicon: Pronunciations = {}
    for word, variants in read_lexicon(path).items():
        for units in variants:
            if not units[0].startswith(BOUNDARY):
                units = (BOUNDARY, *units)
            if strangers := [unit for unit in units if unit not in ids]:
                raise ValueError(f"{path}: the word '{word}' is spelled with {' '.join(strangers)}, which the tokenizer does not have")
            lexicon.setdefault(word, []).append([ids[unit] for unit in units])
    return lexicon


def _spelled_unit(unit: str, tokenizer: Tokenizer, segmentations: int) -> list[list[int]]:
    """As the beginning of a word, if it can be, and as what follows a prefix or a stem."""
    if LANGUAGE_TAG.fullmatch(unit):
        return tokenizer.pronunciations(unit)
    letters = unit.strip(JOINT)
    first = [] if unit.startswith(JOINT) else tokenizer.spellings(BOUNDARY + letters, segmentations)
    return first + tokenizer.spellings(letters, segmentations)


def build_lang(config: LangConfig, tokenizer: Tokenizer, texts: Iterable[str], directory: Path) -> Lang:
    """The language directory for the words of some texts. Raises ValueError as ``make_lexicon`` does."""
    texts = list(texts)
    subwords = None
    if config.subwords is not None:
        if tokenizer.config.type not in ("char", "bpe", "reduced"):
            raise ValueError(f"lang.subwords: units are spelled by their letters, and the tokens are of type '{tokenizer.config.type}'")
        subwords = Subwords.learn((word for text in texts for word in text.split()), config.subwords)
        with atomic_write(directory / SUBWORDS) as file:
            file.write(f"{config.subwords.min_stem}\n")
            file.writelines(f"{unit} {cost}\n" for unit, cost in subwords.costs.items())
    return write_lang(make_lexicon(config, tokenizer, texts, subwords), tokenizer.symbols, directory, config.unknown)


def write_lang(lexicon: Pronunciations, tokens: Sequence[str], directory: Path, unknown: UnknownConfig | None = None) -> Lang:
    """Writes ``words.txt``, ``lexicon.txt``, ``lexicon_disambig.txt``, ``L.pt`` and ``L_disambig.pt``.

    tokens: the tokenizer's symbols; its ``tokens.txt`` is there already.
    """
    words = [EPSILON, *lexicon, *([] if unknown is None else [SPELLED if unknown.output == "spelling" else UNK]), WORD_DISAMBIG]
    with atomic_write(directory / "words.txt") as file:
        file.writelines(f"{word} {i}\n" for i, word in enumerate(words))
    marked, highest = add_disambiguation(lexicon, len(tokens))
    symbols = [*tokens, *(f"#{k}" for k in range(highest + 1))]
    for name, variants in (("lexicon.txt", lexicon), ("lexicon_disambig.txt", marked)):
        with atomic_write(directory / name) as file:
            file.writelines(f"{word} {' '.join(symbols[t] for t in units)}\n" for word, rows in variants.items() for units in rows)
    subwords = (directory / SUBWORDS).exists()

    def places(word: str, units: list[int]) -> Sequence[tuple[int, int]]:
        return hubs(word, tokens[units[0]].startswith(BOUNDARY)) if subwords else [(0, 0)]

    def spelled(symbol: int) -> UnknownWords | None:
        return None if unknown is None else _unknown_words(tokens, symbol, unknown.log_prob)

    lexicon_fst(lexicon, None, spelled(0), places).save(directory / "L.pt")
    lexicon_fst(marked, len(tokens), spelled(len(symbols)), places).save(directory / "L_disambig.pt")
    return Lang(directory)


def _unknown_words(tokens: Sequence[str], symbol: int, log_prob: float) -> UnknownWords:
    spelling = [token for token, text in enumerate(tokens) if text not in (BLANK_SYMBOL, UNK) and not LANGUAGE_TAG.search(text)]
    first = [token for token in spelling if tokens[token].startswith(BOUNDARY)]
    alone = next((token for token in first if tokens[token] == BOUNDARY), None)
    return UnknownWords(first, [token for token in spelling if token not in first], alone, symbol, log_prob)
