"""The table of scorers, and their weighted sum. Shape legend: asr/types.py; R counts scorers."""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Mapping

import torch
from torch import Tensor

from asr.config import one_of
from asr.decode.neural_scorers import InternalLm, NeuralLmScorer
from asr.decode.scorer import BaseScorerConfig, Scorer, State
from asr.decode.search import need_lang
from asr.lm import TokenNgram
from asr.types import BLANK


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


SCORERS: dict[str, Any] = {"ngram": Ngram, "neural_lm": NeuralLmScorer, "internal_lm": InternalLm, "length": Length}
ScorerConfig = one_of(SCORERS)


@dataclass
class FusionState:
    """fused_NV: sum over scorers of scale times score of each next token; scores_RNV: the unscaled parts;
    totals_RN: unscaled sums over the tokens so far; states: one per scorer."""

    fused_NV: Tensor
    scores_RNV: Tensor
    totals_RN: Tensor
    states: list[State]

    def select(self, rows: Tensor) -> "FusionState":
        return FusionState(
            self.fused_NV.index_select(0, rows),
            self.scores_RNV.index_select(1, rows),
            self.totals_RN.index_select(1, rows),
            [tuple(part.index_select(0, rows) for part in state) for state in self.states],
        )


class Fusion:
    """A weighted sum of scorers, stepped together. Scorers of scale 0 are left out."""

    def __init__(self, configs: Mapping[str, Any], tokenizer: Any, lang: Any, model: Any = None) -> None:
        used = {name: config for name, config in configs.items() if config.scale}
        self.names = tuple(used)
        self.scorers: list[Scorer] = [SCORERS[config.type](config, tokenizer, lang, model) for config in used.values()]
        self.scales_R = torch.tensor([config.scale for config in used.values()], dtype=torch.float32)

    def __bool__(self) -> bool:
        return bool(self.scorers)

    def start(self, n: int, device: torch.device | str) -> FusionState:
        self.scales_R = self.scales_R.to(device)
        started = [scorer.start(n, device) for scorer in self.scorers]
        scores_RNV = torch.stack([scores_NV for scores_NV, _ in started])
        totals_RN = torch.zeros(scores_RNV.shape[:2], device=device)
        return FusionState(self._fuse(scores_RNV), scores_RNV, totals_RN, [state for _, state in started])

    def step(self, state: FusionState, rows: Tensor, tokens_M: Tensor) -> None:
        """Advances the hypotheses ``rows`` of ``state`` (in place) by one token each."""
        chosen_RM = self._chosen(state.scores_RNV.index_select(1, rows), tokens_M)
        stepped = [scorer.step(tokens_M, tuple(p[rows] for p in part)) for scorer, part in zip(self.scorers, state.states)]
        scores_RMV = torch.stack([scores_MV for scores_MV, _ in stepped])
        state.totals_RN.index_add_(1, rows, chosen_RM)
        state.scores_RNV.index_copy_(1, rows, scores_RMV)
        state.fused_NV.index_copy_(0, rows, self._fuse(scores_RMV))
        for old, (_, new) in zip(state.states, stepped):
            for part, value in zip(old, new):
                part.index_copy_(0, rows, value)

    def finish(self, state: FusionState) -> tuple[Tensor, Tensor]:
        """(totals_RN with the ends of utterances, unscaled; what the ends add to the score, scaled, N)."""
        final_RN = torch.stack([scorer.final(part) for scorer, part in zip(self.scorers, state.states)])
        return state.totals_RN + final_RN, torch.einsum("rn,r->n", final_RN, self.scales_R)

    def _fuse(self, scores_RNV: Tensor) -> Tensor:
        return torch.einsum("rnv,r->nv", scores_RNV, self.scales_R)

    @staticmethod
    def _chosen(scores_RMV: Tensor, tokens_M: Tensor) -> Tensor:
        return scores_RMV.gather(2, tokens_M.expand(len(scores_RMV), -1).unsqueeze(2)).squeeze(2)
