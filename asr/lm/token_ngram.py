"""An n-gram over tokens, scored for many hypotheses at once (shallow fusion). Shape legend: asr/types.py."""
from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.lm.arpa import read_arpa
from asr.lm.automaton import automaton
from asr.lm.ngram import EOS, UNK, NgramLm
from asr.types import BLANK

log = logging.getLogger(__name__)

TABLE_ENTRIES = 1 << 24
"""Entries (states times vocabulary) up to which all scores are computed beforehand; larger models keep the states that come up."""


class TokenNgram:
    """A hypothesis's state is one int64: the longest of its histories that the model knows.

    Scores are natural log-probabilities, float32. Column 0 (blank) is 0.0, and a blank leaves the state as it is: the model knows
    nothing of blanks. The tables lie on the device given to the last ``start``.
    """

    def __init__(self, lm: NgramLm, symbols: Sequence[str], table_entries: int = TABLE_ENTRIES) -> None:
        """symbols: of each token id, blank first. Tokens that the model does not know have ``<unk>``'s probability.

        Raises ValueError where there are such tokens and the model has no ``<unk>``, and where it knows hardly any token.
        """
        self._word_of_token = _words_of_tokens(lm, symbols)
        self._words = lm.vocab_size
        self._eos = lm.ids[EOS]
        self._automaton = automaton(lm)
        self._states = self._automaton.num_states
        self._capacity = max(1, table_entries // len(symbols))
        self._allocate(torch.device("cpu"))

    @classmethod
    def load(cls, path: Path, tokenizer: Any) -> "TokenNgram":
        """From an ARPA file over the symbols of ``tokenizer`` (anything with ``symbols``)."""
        try:
            return cls(read_arpa(path), tokenizer.symbols)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") if str(path) not in str(error) else error from None

    def start(self, n: int, device: torch.device | str) -> Tensor:
        """State (N,) of ``n`` empty hypotheses."""
        state_N = torch.full((n,), self._automaton.start, dtype=torch.int64, device=device)
        if self._scores_CV.device != state_N.device:
            self._allocate(state_N.device)
        return state_N

    def scores(self, state_N: Tensor) -> Tensor:
        """log P(token | history) (N, V) of every next token."""
        rows_N = self._slots(state_N)  # first: it may replace the tables
        return self._scores_CV[rows_N]

    def advance(self, state_N: Tensor, tokens_N: Tensor) -> Tensor:
        """State (N,) after one more token each."""
        rows_N = self._slots(state_N)
        return torch.where(tokens_N == BLANK, state_N, self._following_CV[rows_N, tokens_N])

    def final(self, state_N: Tensor) -> Tensor:
        """log P(</s> | history) (N,)."""
        rows_N = self._slots(state_N)
        return self._final_C[rows_N]

    def _allocate(self, device: torch.device) -> None:
        """Tables of C = min(states, capacity) rows on ``device``, all filled where every state has a row."""
        rows, vocab_size = min(self._states, self._capacity), len(self._word_of_token)
        self._scores_CV = torch.empty(rows, vocab_size, device=device)
        self._following_CV = torch.empty(rows, vocab_size, dtype=torch.int64, device=device)
        self._final_C = torch.empty(rows, device=device)
        self._slot_of_state = torch.full((self._states,), -1, dtype=torch.int64, device=device)
        self._used = 0
        self._complete = rows == self._states
        if self._complete:
            for some in torch.arange(self._states).split(max(1, (1 << 21) // self._words)):
                self._fill(some)

    def _slots(self, state_N: Tensor) -> Tensor:
        """Rows (N,) of the tables that hold ``state_N``, computed now where they are not there yet."""
        if self._complete:
            return state_N
        missing = state_N[self._slot_of_state[state_N] < 0].unique()
        if self._used + len(missing) > len(self._scores_CV):
            missing = state_N.unique()
            if len(missing) > self._capacity:
                self._capacity = len(missing)
                self._allocate(state_N.device)
            self._slot_of_state.fill_(-1)
            self._used = 0
        if len(missing):
            self._fill(missing.cpu())
        return self._slot_of_state[state_N]

    def _fill(self, states: Tensor) -> None:
        """Computes the rows of ``states``: from the empty history up, each longer one backs off to the one before and overrides it."""
        scores, following = self._rows(states.numpy())
        ends = scores[:, self._eos]
        scores, following = scores[:, self._word_of_token], following[:, self._word_of_token]
        scores[:, BLANK] = 0.0
        rows = slice(self._used, self._used + len(states))
        self._scores_CV[rows] = torch.from_numpy(scores).to(self._scores_CV)
        self._following_CV[rows] = torch.from_numpy(following).to(self._following_CV)
        self._final_C[rows] = torch.from_numpy(ends).to(self._final_C)
        self._slot_of_state[states.to(self._slot_of_state.device)] = torch.arange(rows.start, rows.stop, device=self._slot_of_state.device)
        self._used = rows.stop

    def _rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (natural log) and following states of every word of the model, (len(states), words) each."""
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
        return scores * math.log(10), following


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
