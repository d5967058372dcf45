"""What every search shares: its contract, and the words for what it cannot do.

Shape legend: asr/types.py.
"""
from __future__ import annotations

import math
from typing import Any, Mapping, Protocol, Sequence, TypeVar, runtime_checkable

import torch
from pydantic import Field, model_validator
from torch import Tensor

from asr.config import Config as BaseConfig
from asr.types import EncoderOut, Hypothesis, Targets

Self = TypeVar("Self", bound="SearchConfig")


class Search(Protocol):
    """``decode`` gives one list of hypotheses per utterance, best first, never empty."""

    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]: ...


@runtime_checkable
class StreamingSearch(Search, Protocol):
    """A search that also takes the frames of several streams piece by piece; those of all pieces together give what ``decode`` gives.

    A state has one row per stream; :meth:`advance` gives the next one, and the one before must not be used again.
    """

    def start(self, streams: int) -> Any: ...

    def advance(self, encoder_out: EncoderOut, state: Any) -> Any: ...

    def hypotheses(self, state: Any) -> list[list[Hypothesis]]:
        """So far, best first; the scores of the ends are not in them."""

    def finish(self, state: Any) -> list[list[Hypothesis]]: ...


class SearchConfig(BaseConfig):
    """tune: dotted key of this config -> values to try on the development set, as in {"scorers.ngram.scale": [0.1, 0.3]}.
    nbest: hypotheses of each utterance in the result file, with their scores; 1 for none but the best."""

    tune: dict[str, list[float]] = {}
    nbest: int = Field(default=1, ge=1)

    def lang_files(self) -> tuple[str, ...]:
        """Names of the files in the language directory that the search reads."""
        return ()

    def with_values(self: Self, values: Mapping[str, float]) -> Self:
        """This config with other values at some dotted keys. Raises ValueError for a key it does not have."""
        settings = self.model_dump()
        for key, value in values.items():
            *path, last = key.split(".")
            node: Any = settings
            for part in path:
                node = node.get(part) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise ValueError(f"tune: '{key}' is not a key of this search")
            node[last] = value
        return type(self).model_validate(settings)

    @model_validator(mode="after")
    def _tunes_what_it_has(self: Self) -> Self:
        for key, values in self.tune.items():
            if not values:
                raise ValueError(f"tune: '{key}' has no values to try")
            for value in values:
                self.model_copy(update={"tune": {}}).with_values({key: value})
        return self


class BlankPenaltyConfig(SearchConfig):
    """blank_penalty: subtracted from blank's logit; above 0 for models that delete."""

    blank_penalty: float = 0.0


class TransducerSearchConfig(BlankPenaltyConfig):
    """skip_blank: frames where the CTC head's probability of blank is higher are left out before the search; null for none."""

    skip_blank: float | None = Field(default=None, gt=0, le=1)


class Unavailable(ValueError):
    """This stack (no k2) or this kind of model cannot run the search; the others go on without it."""


def need_lang(lang: Any, file: str) -> Any:
    """``lang``, where there is one. ``file`` says what is wanted of it."""
    if lang is None:
        raise Unavailable(f"{file} lies in a language directory, and none is here: stages 4 and 5 of a recipe make it, --data-dir names it")
    return lang


NOT_FOUND = Hypothesis(tokens=(), score=-math.inf, words=(), word_frames=(), frames=(), confidences=())
"""Stands for an utterance whose every path was pruned away."""


def posteriors(model: Any, encoder_out: EncoderOut, tokens: Sequence[Sequence[int]], frames: Sequence[Sequence[int]]) -> list[list[float]]:
    """The transducer's probability of each token at the frame where it was emitted, given the tokens before it.

    tokens, frames: one sequence each per utterance of ``encoder_out``. Scorers, penalties and durations have no part in it, so
    the confidences of all transducer searches mean the same.
    """
    device = encoder_out.frames_BSD.device
    tokens_BU = Targets.from_lists(tokens).tokens_BU.to(device)
    if tokens_BU.numel() == 0:
        return [[] for _ in tokens]
    frames_BU = Targets.from_lists(frames).tokens_BU.to(device)
    rows_B1 = torch.arange(len(tokens), device=device).unsqueeze(1)
    encoder_BUJ = model.joiner.project_encoder(encoder_out.frames_BSD[rows_B1, frames_BU])
    predictor_BUJ = model.joiner.project_predictor(model.predictor(tokens_BU)[:, :-1])
    logits_BUV, _ = model.joiner.split(model.joiner(encoder_BUJ, predictor_BUJ))
    log_probs_BUV = logits_BUV.float().log_softmax(-1)
    probs_BU = log_probs_BUV.gather(2, tokens_BU.unsqueeze(2)).squeeze(2).exp()
    return [row[: len(sequence)] for row, sequence in zip(probs_BU.tolist(), tokens)]


def blank_penalised(logits: Tensor, penalty: float) -> Tensor:
    """Log-probabilities (..., V) after ``penalty`` has been taken from blank's logit (in place: ``logits`` is given up)."""
    if penalty:
        logits[..., 0] -= penalty
    return logits.float().log_softmax(-1)
