"""Scorers: what a beam search adds to the model's log-probability of a token sequence.

A scorer is batched over hypotheses and depends on their tokens alone:

    start(n, device) -> (scores_NV, state)          log-probability of each possible first token; blank's is 0
    step(tokens_N, state) -> (scores_NV, state)     the same after one more (non-blank) token each
    final(state) -> scores_N                        for the end of the utterance

The state is a tuple of tensors with hypotheses as rows, as the predictor's. A score of -inf forbids a token; where the beam holds
nothing but hypotheses that may not end where they do, they are taken without their scores of the end. Shape legend: asr/types.py.
"""
from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from asr.config import Config as BaseConfig

State = tuple[Tensor, ...]


class Scorer(Protocol):
    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]: ...

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]: ...

    def final(self, state: State) -> Tensor: ...


class BaseScorerConfig(BaseConfig):
    """scale: multiplies the scores; 0 leaves the scorer out."""

    scale: float = 0.0

    def lang_files(self) -> tuple[str, ...]:
        """Names of the files in the language directory that the scorer reads."""
        return ()
