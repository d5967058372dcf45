"""Automata over tokens, scored for many hypotheses at once: the rows of dense tables are their states. Shape legend: asr/types.py.

C counts rows of the tables.
"""
from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from asr.lm.ngram import Floats, Ints
from asr.types import BLANK

TABLE_ENTRIES = 1 << 24
"""Entries (states times vocabulary) up to which all scores are computed beforehand; larger automata keep the states that come up."""


class StateTables(ABC):
    """A hypothesis's state is one int64: a state of a deterministic automaton, whose rows :meth:`rows` computes.

    Scores are float32. Column 0 (blank) is 0.0, and a blank leaves the state as it is: the automaton knows nothing of blanks. The
    tables lie on the device given to the last ``start``.
    """

    def __init__(self, states: int, first: int, vocab_size: int, table_entries: int = TABLE_ENTRIES) -> None:
        """first: the state of an empty hypothesis."""
        self._states, self._first, self._vocab_size = states, first, vocab_size
        self._capacity = max(1, table_entries // vocab_size)
        self._allocate(torch.device("cpu"))

    @abstractmethod
    def rows(self, states: Ints) -> tuple[Floats, Ints, Floats]:
        """Of some states: the score of each token and the state after it, (len(states), V) each, and the score of the end."""

    def start(self, n: int, device: torch.device | str) -> Tensor:
        """State (N,) of ``n`` empty hypotheses."""
        state_N = torch.full((n,), self._first, dtype=torch.int64, device=device)
        if self._scores_CV.device != state_N.device:
            self._allocate(state_N.device)
        return state_N

    def scores(self, state_N: Tensor) -> Tensor:
        """Scores (N, V) of every next token."""
        rows_N = self._slots(state_N)  # first: it may replace the tables
        return self._scores_CV[rows_N]

    def advance(self, state_N: Tensor, tokens_N: Tensor) -> Tensor:
        """State (N,) after one more token each."""
        rows_N = self._slots(state_N)
        return torch.where(tokens_N == BLANK, state_N, self._following_CV[rows_N, tokens_N])

    def final(self, state_N: Tensor) -> Tensor:
        """Score (N,) of the end."""
        rows_N = self._slots(state_N)
        return self._final_C[rows_N]

    def _allocate(self, device: torch.device) -> None:
        """Tables of C = min(states, capacity) rows on ``device``, all filled where every state has a row."""
        count = min(self._states, self._capacity)
        self._scores_CV = torch.empty(count, self._vocab_size, device=device)
        self._following_CV = torch.empty(count, self._vocab_size, dtype=torch.int64, device=device)
        self._final_C = torch.empty(count, device=device)
        self._slot_of_state = torch.full((self._states,), -1, dtype=torch.int64, device=device)
        self._used = 0
        self._complete = count == self._states
        if self._complete:
            for some in torch.arange(self._states).split(max(1, (1 << 21) // self._vocab_size)):
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
        scores, following, final = self.rows(states.numpy())
        scores[:, BLANK] = 0.0
        slots = slice(self._used, self._used + len(states))
        self._scores_CV[slots] = torch.from_numpy(scores).to(self._scores_CV)
        self._following_CV[slots] = torch.from_numpy(following).to(self._following_CV)
        self._final_C[slots] = torch.from_numpy(final).to(self._final_C)
        device = self._slot_of_state.device
        self._slot_of_state[states.to(device)] = torch.arange(slots.start, slots.stop, device=device)
        self._used = slots.stop
