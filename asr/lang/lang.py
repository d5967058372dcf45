"""The language directory: words, their token sequences, and the graphs made from them."""
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from asr.config import Config
from asr.files import atomic_write
from asr.lang.fst import Fst
from asr.lang.lexicon import EPSILON, WORD_DISAMBIG, Pronunciations, add_disambiguation, lexicon_fst
from asr.tokens import BOUNDARY, Tokenizer
from asr.tokens.lexicon import explain_missing, missing_words, read_lexicon
from asr.tokens.tokenizer import read_symbols

log = logging.getLogger(__name__)

Topology = Literal["standard", "modified"]
Engine = Literal["auto", "k2", "openfst"]

RESERVED = (EPSILON, WORD_DISAMBIG, "<s>", "</s>")


class LangConfig(Config):
    """lexicon: a file of ``word unit unit ...`` lines, its units being symbols of the tokenizer; all its words are taken.
        Without one, the tokenizer spells the words of the training transcripts and of the texts for the n-gram.
    oov: what a word of these texts without a spelling means: an error that names it, or that it is left out (and the n-gram's <unk>).
    topology: of CTC in HLG: "standard", or "modified" (a repeated token needs no blank between, which makes much smaller graphs).
    engine: what composes and determinises the graphs; "auto" is k2 where it is installed, else OpenFst.
    graph_order: orders of the n-gram that go into the graphs, by default all; the others are for second passes, or, over unigrams,
        for on-the-fly composition in the search (``ngram`` of ctc_graph).
    memory_limit: GiB that composing them may take; by default what is available then.
    """

    lexicon: str | None = None
    oov: Literal["error", "skip"] = "error"
    topology: Topology = "standard"
    engine: Engine = "auto"
    graph_order: int | None = Field(default=None, ge=1)
    memory_limit: float | None = Field(default=None, gt=0)


class Lang:
    """Read access to a language directory.

    words: the symbol of each word id: ``<eps>``, the words, ``#0``.
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

    @property
    def vocabulary(self) -> list[str]:
        """The words alone, without ``<eps>`` and ``#0``."""
        return self.words[1:-1]

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


def make_lexicon(config: LangConfig, tokenizer: Tokenizer, texts: Iterable[str]) -> Pronunciations:
    """The words and their token sequences, sorted by word.

    Raises ValueError naming words that cannot be spelled, units of a lexicon file that are no tokens, and reserved words.
    """
    seen = sorted({word for text in texts for word in text.split()})
    if config.lexicon is None:
        lexicon = {word: tokenizer.pronunciations(word) for word in seen if not tokenizer.unknown(word)}
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
    if reserved := [word for word in RESERVED if word in lexicon]:
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


def write_lang(lexicon: Pronunciations, tokens: Sequence[str], directory: Path) -> Lang:
    """Writes ``words.txt``, ``lexicon.txt``, ``lexicon_disambig.txt``, ``L.pt`` and ``L_disambig.pt``.

    tokens: the tokenizer's symbols; its ``tokens.txt`` is there already.
    """
    words = [EPSILON, *lexicon, WORD_DISAMBIG]
    with atomic_write(directory / "words.txt") as file:
        file.writelines(f"{word} {i}\n" for i, word in enumerate(words))
    marked, highest = add_disambiguation(lexicon, len(tokens))
    symbols = [*tokens, *(f"#{k}" for k in range(highest + 1))]
    for name, variants in (("lexicon.txt", lexicon), ("lexicon_disambig.txt", marked)):
        with atomic_write(directory / name) as file:
            file.writelines(f"{word} {' '.join(symbols[t] for t in units)}\n" for word, rows in variants.items() for units in rows)
    lexicon_fst(lexicon).save(directory / "L.pt")
    lexicon_fst(marked, disambig=len(tokens)).save(directory / "L_disambig.pt")
    return Lang(directory)
