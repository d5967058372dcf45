"""A second pass: the n-best list of another search, ranked again with more scorers.

What a language model or the attention decoder says of whole hypotheses costs one pass over each, however many frames there were, so a
second pass can afford larger models than the beam. Shape legend: asr/types.py; U counts tokens of the longest hypothesis.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Sequence

import torch
from pydantic import model_validator
from torch import Tensor

from asr.decode.attention import AttentionRescorer
from asr.decode.scorer import Scorer
from asr.decode.scorers import RESCORERS, RescorerConfig
from asr.decode.search import SearchConfig, TransducerSearchConfig, posteriors
from asr.types import EncoderOut, Hypothesis, Targets

if TYPE_CHECKING:
    FirstPass = Any  # a config of any other search; asr/decode/__init__.py, which has the table, says so


@dataclass(frozen=True)
class Paths:
    """What the first pass found for each utterance, and what each scorer says of each hypothesis, unscaled, by the scorer's name."""

    hypotheses: list[list[Hypothesis]]
    totals: list[list[dict[str, float]]]


class Rescore:
    class Config(SearchConfig):
        """first: the search that makes the n-best lists, with scales of its own; its keys are tuned from here, as ``first.beam``.
        scorers: added to the score of the first pass, each by its scale."""

        type: Literal["rescore"] = "rescore"
        first: FirstPass
        scorers: dict[str, RescorerConfig]  # type: ignore[valid-type]

        def lang_files(self) -> tuple[str, ...]:
            return (*self.first.lang_files(), *(file for scorer in self.scorers.values() for file in scorer.lang_files()))

        @model_validator(mode="after")
        def _one_place_for_each_thing(self) -> "Rescore.Config":
            if self.first.tune:
                raise ValueError(f"first.tune: give these values to the tune of this search, as first.{next(iter(self.first.tune))}")
            scales = {f"scorers.{name}.scale" for name in self.scorers}
            if strange := [key for key in self.tune if not key.startswith("first.") and key not in scales]:
                raise ValueError(f"tune: '{strange[0]}' is neither a key of the first pass nor the scale of a scorer")
            if twice := self.scorers.keys() & getattr(self.first, "scorers", {}).keys():
                raise ValueError(f"scorers: the first pass has a scorer '{min(twice)}', too; give this one another name")
            return self

    def __init__(self, config: "Rescore.Config", model: Any, tokenizer: Any, lang: Any = None) -> None:
        from asr.decode import build_search  # which imports this module

        self.config, self.model = config, model
        self.first = build_search(config.first, model, tokenizer, lang)
        self.scorers: dict[str, Scorer | AttentionRescorer] = {
            name: RESCORERS[scorer.type](scorer, tokenizer, lang, model) for name, scorer in config.scorers.items()
        }
        self.context = getattr(self.first, "context", None)

    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        return self.rank(encoder_out, self.paths(encoder_out, self.first.decode(encoder_out)))

    @torch.no_grad()
    def paths(self, encoder_out: EncoderOut, found: list[list[Hypothesis]]) -> Paths:
        """All that does not depend on the scales of the second pass, so that a grid of them needs it once. found: by the first pass."""
        columns = {name: iter(self._totals(scorer, encoder_out, found)) for name, scorer in self.scorers.items()}
        return Paths(found, [[{name: next(column) for name, column in columns.items()} for _ in hypotheses] for hypotheses in found])

    @staticmethod
    def _totals(scorer: Scorer | AttentionRescorer, encoder_out: EncoderOut, found: list[list[Hypothesis]]) -> list[float]:
        if isinstance(scorer, AttentionRescorer):
            return scorer.totals(encoder_out, found)
        return total_scores(scorer, [h.tokens for hypotheses in found for h in hypotheses], encoder_out.frames_BSD.device).tolist()

    def rank(self, encoder_out: EncoderOut, paths: Paths) -> list[list[Hypothesis]]:
        """Best first, by the ranking of the first pass: ``modified_beam`` divides scores by lengths, others do not."""
        scales = {name: scorer.scale for name, scorer in self.config.scorers.items()}
        results = []
        for hypotheses, totals in zip(paths.hypotheses, paths.totals):
            scored = [
                replace(h, score=h.score + sum(scales[name] * total for name, total in parts.items()), scores={**h.scores, **parts})
                for h, parts in zip(hypotheses, totals)
            ]
            results.append(sorted(scored, key=self._rank, reverse=True))
        return self._with_confidences(encoder_out, results)

    def _rank(self, hypothesis: Hypothesis) -> float:
        return hypothesis.score if self.context is None else hypothesis.score / (len(hypothesis.tokens) + self.context)

    def _with_confidences(self, encoder_out: EncoderOut, results: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """A transducer's confidences, of the best of each list."""
        best = [hypotheses[0] for hypotheses in results]
        if not isinstance(self.config.first, TransducerSearchConfig) or any(h.frames is None for h in best):
            return results
        found = posteriors(self.model, encoder_out, [h.tokens for h in best], [h.frames or () for h in best])
        for hypotheses, values in zip(results, found):
            hypotheses[0] = replace(hypotheses[0], confidences=tuple(values))
        return results


def total_scores(scorer: Scorer, sequences: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """What ``scorer`` says of whole token sequences, ends included: (N,), all of them a token at a time together."""
    targets = Targets.from_lists(sequences).to(device)
    lens_N, order_N = targets.lens_B.sort(descending=True)  # those that go on are always the first
    tokens_NU = targets.tokens_BU[order_N]
    scores_MV, state = scorer.start(len(sequences), device)
    totals_N = torch.zeros(len(sequences), device=device)
    for u in range(tokens_NU.shape[1] + 1):
        before, going = len(scores_MV), int((lens_N > u).sum())
        totals_N[going:before] += scorer.final(tuple(part[going:] for part in state))
        if going == 0:
            break
        tokens_M = tokens_NU[:going, u]
        totals_N[:going] += scores_MV[:going].gather(1, tokens_M.unsqueeze(1)).squeeze(1)
        scores_MV, state = scorer.step(tokens_M, tuple(part[:going] for part in state))
    return torch.empty_like(totals_N).index_copy_(0, order_N, totals_N)
