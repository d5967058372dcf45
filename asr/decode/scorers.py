"""The tables of scorers, and their weighted sum. Shape legend: asr/types.py; R counts scorers."""
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Literal, Mapping, Sequence

import torch
from torch import Tensor

from asr.config import one_of
from asr.decode.attention import AttentionRescorer
from asr.decode.history import Emission, hypothesis
from asr.decode.hotwords import Hotwords
from asr.decode.lexicon import Lexicon
from asr.decode.neural_scorers import InternalLm, NeuralLmScorer
from asr.decode.scorer import BaseScorerConfig, Scorer, State
from asr.decode.search import need_lang
from asr.lm import TokenNgram
from asr.types import BLANK, Hypothesis


class Ngram:
    """Shallow fusion with an n-gram over tokens of the language directory: Gulcehre et al., "On using monolingual corpora in
    neural machine translation", 2015. With a negative scale, the n-gram of the transcripts makes a low-order density ratio of
    another language model: Zheng et al., "An empirical study of language model integration for transducer based speech
    recognition", 2022 (LODR)."""

    class Config(BaseScorerConfig):
        """arpa: token.arpa (all text), or transcripts.arpa (the training transcripts alone, of a lower order).
        final: whether the end of the sentence is scored too."""

        type: Literal["ngram"] = "ngram"
        scale: float = 0.2
        arpa: str = "token.arpa"
        final: bool = True

        def lang_files(self) -> tuple[str, ...]:
            return (self.arpa,)

    def __init__(self, config: "Ngram.Config", tokenizer: Any, lang: Any, model: Any = None) -> None:
        self.config = config
        path = need_lang(lang, config.arpa).directory / config.arpa
        self.ngram = _token_ngram(path, path.stat().st_mtime_ns if path.exists() else 0, tuple(tokenizer.symbols))

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        return self._scored(self.ngram.start(n, device))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        return self._scored(self.ngram.advance(state[0], tokens_N))

    def final(self, state: State) -> Tensor:
        return self.ngram.final(state[0]) if self.config.final else torch.zeros(len(state[0]), device=state[0].device)

    def _scored(self, state_N: Tensor) -> tuple[Tensor, State]:
        return self.ngram.scores(state_N), (state_N,)


@lru_cache(maxsize=4)
def _token_ngram(path: Path, modified: int, symbols: tuple[str, ...]) -> TokenNgram:
    """Read once for all the scales that are tried. modified: the file's time, so that a new file is read anew."""
    return TokenNgram.load(path, SimpleNamespace(symbols=symbols))


class Length:
    """A reward of ``scale`` per token, against the preference of every probability for short results."""

    class Config(BaseScorerConfig):
        type: Literal["length"] = "length"

    def __init__(self, config: "Length.Config", tokenizer: Any, lang: Any = None, model: Any = None) -> None:
        self.config = config
        self.one_V = torch.ones(tokenizer.vocab_size)
        self.one_V[BLANK] = 0.0

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        return self.one_V.to(device).expand(n, -1), (torch.zeros(n, device=device),)

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        return self.one_V.to(tokens_N.device).expand(len(tokens_N), -1), state

    def final(self, state: State) -> Tensor:
        return torch.zeros_like(state[0])


SCORERS: dict[str, Any] = {
    "ngram": Ngram, "neural_lm": NeuralLmScorer, "internal_lm": InternalLm, "lexicon": Lexicon, "hotwords": Hotwords, "length": Length,
}
ScorerConfig = one_of(SCORERS)
RESCORERS: dict[str, Any] = {**SCORERS, "attention": AttentionRescorer}
"""Of second passes: all scorers of beams, and what looks at the audio."""
RescorerConfig = one_of(RESCORERS)


@dataclass
class FusionState:
    """fused_NV: sum over scorers of scale times score of each next token; scores_NRV: the unscaled parts;
    totals_NR: unscaled sums over the tokens so far; states: one per scorer."""

    fused_NV: Tensor
    scores_NRV: Tensor
    totals_NR: Tensor
    states: list[State]

    def select(self, rows: Tensor) -> "FusionState":
        states = [tuple(part[rows] for part in state) for state in self.states]
        return FusionState(self.fused_NV[rows], self.scores_NRV[rows], self.totals_NR[rows], states)

    def tensors(self) -> list[Tensor]:
        """All of it, hypotheses as rows."""
        return [self.fused_NV, self.scores_NRV, self.totals_NR, *(part for state in self.states for part in state)]


class Fusion:
    """A weighted sum of scorers, stepped together. Scorers of scale 0 are left out."""

    def __init__(self, configs: Mapping[str, Any], tokenizer: Any, lang: Any, model: Any = None) -> None:
        used = {name: config for name, config in configs.items() if config.scale}
        self.names = tuple(used)
        self.scorers: list[Scorer] = [SCORERS[config.type](config, tokenizer, lang, model) for config in used.values()]
        self.scales_R = torch.tensor([config.scale for config in used.values()], dtype=torch.float32)
        self.lexicon = next((scorer for scorer in self.scorers if isinstance(scorer, Lexicon)), None)

    def __bool__(self) -> bool:
        return bool(self.scorers)

    def start(self, n: int, device: torch.device | str) -> FusionState:
        self.scales_R = self.scales_R.to(device)
        started = [scorer.start(n, device) for scorer in self.scorers]
        scores_NRV = torch.stack([scores_NV for scores_NV, _ in started], dim=1)
        states = [tuple(part.clone() for part in state) for _, state in started]  # they are changed in place, and may share memory
        return FusionState(self._fuse(scores_NRV), scores_NRV, torch.zeros(scores_NRV.shape[:2], device=device), states)

    def step(self, state: FusionState, rows: Tensor, tokens_M: Tensor) -> None:
        """Advances the hypotheses ``rows`` of ``state`` (in place) by one token each."""
        state.totals_NR.index_add_(0, rows, state.scores_NRV[rows, :, tokens_M])
        stepped = [scorer.step(tokens_M, tuple(p[rows] for p in part)) for scorer, part in zip(self.scorers, state.states)]
        scores_MRV = torch.stack([scores_MV for scores_MV, _ in stepped], dim=1)
        state.scores_NRV.index_copy_(0, rows, scores_MRV)
        state.fused_NV.index_copy_(0, rows, self._fuse(scores_MRV))
        for old, (_, new) in zip(state.states, stepped):
            for part, value in zip(old, new):
                part.index_copy_(0, rows, value)

    def extend(self, state: FusionState, parents_BK: Tensor, tokens_BK: Tensor) -> None:
        """Puts (in place) into each slot of B beams the hypothesis of its parent slot, one token longer where that is not BLANK."""
        rearrange(state.tensors(), parents_BK)
        grown = (tokens_BK != BLANK).view(-1).nonzero().squeeze(1)
        if len(grown):
            self.step(state, grown, tokens_BK.view(-1)[grown])

    def finish(self, state: FusionState, scores_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (B, K) with those of the ends, and unscaled totals (B, K, R). Where no hypothesis of an utterance may end, they
        are taken as they are."""
        final_NR = torch.stack([scorer.final(part) for scorer, part in zip(self.scorers, state.states)], dim=1)
        ended_BK = scores_BK + (final_NR * self.scales_R).sum(1).view(scores_BK.shape)
        may_end_B1 = (ended_BK > -torch.inf).any(1, keepdim=True)
        totals_BKR = state.totals_NR.view(*scores_BK.shape, -1)
        totals_BKR = torch.where(may_end_B1.unsqueeze(2), totals_BKR + final_NR.view(totals_BKR.shape), totals_BKR)
        return torch.where(may_end_B1, ended_BK, scores_BK), totals_BKR

    def nbest(
        self, scores_BK: Tensor, state: FusionState | None, emissions: Callable[[int, int], list[Emission]], final: bool,
        rank: Callable[[float, int], float], durations: bool = False,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, the highest ``rank(score, number of tokens)`` first, dead ones left out.

        scores_BK: without the scores of the ends, which are added if ``final``. emissions: of an utterance and a slot of it.
        """
        totals_BKR = scores_BK.new_zeros(*scores_BK.shape, len(self.names))
        if state is not None:
            totals_BKR = state.totals_NR.view(totals_BKR.shape)
            if final:
                scores_BK, totals_BKR = self.finish(state, scores_BK)
        model_BK = scores_BK - (totals_BKR * self.scales_R.to(totals_BKR.device)).sum(-1)
        results = []
        for b, (scores, model, totals) in enumerate(zip(scores_BK.tolist(), model_BK.tolist(), totals_BKR.tolist())):
            found = []
            for slot, score in enumerate(scores):
                if score > -math.inf:
                    parts = {"model": model[slot], **dict(zip(self.names, totals[slot]))}
                    found.append(hypothesis(emissions(b, slot), score, parts, durations))
            if self.lexicon is not None:
                found = self.lexicon.with_words(found)
            results.append(sorted(found, key=lambda h: -rank(h.score, len(h.tokens))))
        return results

    def _fuse(self, scores_NRV: Tensor) -> Tensor:
        return (scores_NRV * self.scales_R.unsqueeze(1)).sum(1)


def rearrange(tensors: Sequence[Tensor], parents_BK: Tensor) -> None:
    """Puts (in place) into the rows of tensors (B * K, ...) those of the parent slots."""
    count, k = parents_BK.shape
    parents_N = (parents_BK + torch.arange(0, count * k, k, device=parents_BK.device).unsqueeze(1)).view(-1)
    changed = (parents_N != torch.arange(count * k, device=parents_N.device)).nonzero().squeeze(1)
    sources = parents_N[changed]
    for part in tensors:
        part.index_copy_(0, changed, part.index_select(0, sources))
