"""Hot words: a bonus for phrases that are expected, by an Aho-Corasick automaton over tokens.

Aho and Corasick, "Efficient string matching: an aid to bibliographic search", CACM 1975. The bonus is given token by token, so that
the beam keeps what may become a phrase, and taken back when it does not: the total of a sequence is that of the phrases it contains,
whole words each.
"""
from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from asr.decode.scorer import BaseScorerConfig, State
from asr.lm import StateTables
from asr.tokens import BOUNDARY


class Hotwords:
    class Config(BaseScorerConfig):
        """The bonus of a phrase is ``scale`` times its weight for each of its tokens; a negative weight discourages it.
        phrases: with their weights. file: more of them, one a line, each followed by a tab and its weight unless that is 1."""

        type: Literal["hotwords"] = "hotwords"
        scale: float = 1.0
        phrases: dict[str, float] = {}
        file: str | None = None

        def lang_files(self) -> tuple[str, ...]:
            return () if self.file is None else (str(Path(self.file).resolve()),)

        @model_validator(mode="after")
        def _has_phrases(self) -> "Hotwords.Config":
            if not self.phrases and self.file is None:
                raise ValueError("hot words need phrases or a file of them")
            return self

    def __init__(self, config: "Hotwords.Config", tokenizer: Any, lang: Any = None, model: Any = None) -> None:
        phrases = dict(config.phrases) if config.file is None else {**read_phrases(Path(config.file)), **config.phrases}
        begins_V = np.array([symbol.startswith(BOUNDARY) for symbol in tokenizer.symbols])
        self.automaton = PhraseAutomaton(tokenized(phrases, tokenizer), begins_V)

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        return self._scored(self.automaton.start(n, device))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        return self._scored(self.automaton.advance(state[0], tokens_N))

    def final(self, state: State) -> Tensor:
        return self.automaton.final(state[0])

    def _scored(self, state_N: Tensor) -> tuple[Tensor, State]:
        return self.automaton.scores(state_N), (state_N,)


def read_phrases(path: Path) -> dict[str, float]:
    """Phrases and weights of a file. Raises ValueError naming file and line."""
    phrases = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: not readable as a file of hot words ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        phrase, _, weight = line.partition("\t")
        if not phrase.strip():
            continue
        try:
            phrases[phrase.strip()] = float(weight or 1)
        except ValueError:
            raise ValueError(f"{path}:{number}: expected a phrase, or a phrase, a tab and a number; got {line!r}") from None
    return phrases


def tokenized(phrases: Mapping[str, float], tokenizer: Any) -> dict[tuple[int, ...], float]:
    """Token sequences, all that stand for a phrase, and weights. Raises ValueError for what the tokenizer cannot spell."""
    sequences = {}
    for phrase, weight in phrases.items():
        if unknown := tokenizer.unknown(phrase):
            raise ValueError(f"hot words: '{phrase}' has {' '.join(unknown)}, without a token; write phrases as transcripts are written")
        for spelling in itertools.product(*(tokenizer.pronunciations(word) for word in phrase.split())):
            sequences[tuple(token for word in spelling for token in word)] = weight
    return sequences


class PhraseAutomaton(StateTables):
    """States are the beginnings of phrases, 0 that of none; a state's longest proper suffix that is one, too, is where it fails to.

    A hypothesis in a state has been given, in advance, the bonus of the phrases that end there, which holds if a word ends there, too,
    and the highest that a phrase in progress would have by now.
    """

    def __init__(self, phrases: Mapping[tuple[int, ...], float], begins_V: np.ndarray) -> None:
        """phrases: token sequences and the weight of each token. begins_V: whether a token begins a word."""
        self._begins_V = begins_V
        self._children: list[dict[int, int]] = [{}]
        ended, hoped = [0.0], [0.0]
        for tokens, weight in phrases.items():
            state = 0
            for depth, token in enumerate(tokens, 1):
                if token not in self._children[state]:
                    self._children[state][token] = len(ended)
                    self._children.append({})
                    ended.append(0.0)
                    hoped.append(0.0)
                state = self._children[state][token]
                if depth < len(tokens):
                    hoped[state] = max(hoped[state], depth * weight)
            ended[state] += len(tokens) * weight
        self._fails = [0] * len(ended)
        queue = deque(self._children[0].values())
        while queue:
            state = queue.popleft()
            for token, child in self._children[state].items():
                fallback = self._fails[state]
                while fallback and token not in self._children[fallback]:
                    fallback = self._fails[fallback]
                self._fails[child] = self._children[fallback].get(token, 0)
                queue.append(child)
            ended[state] += ended[self._fails[state]]
            hoped[state] = max(hoped[state], hoped[self._fails[state]])
        self._ended, self._given = np.array(ended), np.array(ended) + np.array(hoped)
        super().__init__(len(ended), 0, len(begins_V))

    def rows(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        following = np.zeros((len(states), len(self._begins_V)), dtype=np.int64)
        for row, state in enumerate(states.tolist()):
            suffixes = [state]
            while suffixes[-1]:
                suffixes.append(self._fails[suffixes[-1]])
            for suffix in reversed(suffixes):
                for token, child in self._children[suffix].items():
                    following[row, token] = child
        kept = np.outer(self._ended[states], self._begins_V)
        final = self._ended[states] - self._given[states]
        return self._given[following] - self._given[states, None] + kept, following, final
