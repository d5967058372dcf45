"""An n-gram over tokens, scored for many hypotheses at once (shallow fusion)."""
from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.lm.arpa import read_arpa
from asr.lm.automaton import automaton
from asr.lm.ngram import EOS, UNK, Floats, Ints, NgramLm
from asr.lm.tables import TABLE_ENTRIES, StateTables

log = logging.getLogger(__name__)


class TokenNgram(StateTables):
    """Natural log-probabilities. A hypothesis's state is the longest of its histories that the model knows."""

    def __init__(self, lm: NgramLm, symbols: Sequence[str], table_entries: int = TABLE_ENTRIES) -> None:
        """symbols: of each token id, blank first. Tokens that the model does not know have ``<unk>``'s probability.

        Raises ValueError where there are such tokens and the model has no ``<unk>``, and where it knows hardly any token.
        """
        self._word_of_token = _words_of_tokens(lm, symbols)
        self._words = lm.vocab_size
        self._eos = lm.ids[EOS]
        self._automaton = automaton(lm)
        super().__init__(self._automaton.num_states, self._automaton.start, len(symbols), table_entries)

    @classmethod
    def load(cls, path: Path, tokenizer: Any) -> "TokenNgram":
        """From an ARPA file over the symbols of ``tokenizer`` (anything with ``symbols``)."""
        try:
            return cls(read_arpa(path), tokenizer.symbols)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") if str(path) not in str(error) else error from None

    def rows(self, states: Ints) -> tuple[Floats, Ints, Floats]:
        """From the empty history up, each longer one backs off to the one before and overrides it."""
        graph = self._automaton
        chain = [states]
        while (chain[-1] > 0).any():
            chain.append(graph.backoff[chain[-1]])
        scores = np.zeros((len(states), self._words))
        following = np.zeros((len(states), self._words), dtype=np.int64)
        for level in reversed(chain):
            rows = np.flatnonzero(level > 0) if level is not chain[-1] else np.arange(len(level))
            scores[rows] += graph.weight[level[rows], None]
            place, arc = graph.arcs_of(level[rows])
            scores[rows[place], graph.word[arc]] = graph.log_prob[arc]
            following[rows[place], graph.word[arc]] = graph.following[arc]
        scores *= math.log(10)
        return scores[:, self._word_of_token], following[:, self._word_of_token], scores[:, self._eos]


def _words_of_tokens(lm: NgramLm, symbols: Sequence[str]) -> np.ndarray:
    """The model's word id of each token; of blank any."""
    missing = [symbol for symbol in symbols[1:] if symbol not in lm.ids]
    if missing and (UNK not in lm.ids or len(missing) > len(symbols) / 2):
        raise ValueError(f"the n-gram does not know {len(missing)} of {len(symbols) - 1} tokens ({' '.join(missing[:10])} ...); "
                         "was it estimated with another tokenizer? run local/train_ngram.py again")
    if missing:
        log.warning("the n-gram does not know %d of %d tokens; they have %s's probability", len(missing), len(symbols) - 1, UNK)
    fallback = lm.ids.get(UNK, lm.ids[EOS])
    return np.array([fallback] + [lm.ids.get(symbol, fallback) for symbol in symbols[1:]], dtype=np.int64)
