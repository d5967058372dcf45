"""The attention decoder as a second pass: Sainath et al., "Two-pass end-to-end speech recognition", Interspeech 2019; after a streaming
first pass, it is U2's: Zhang et al., "Unified streaming and non-streaming two-pass end-to-end model for speech recognition", 2020.

Shape legend: asr/types.py; P paths of each utterance.
"""
from __future__ import annotations

from typing import Any, Literal, Sequence

from asr.decode.scorer import BaseScorerConfig
from asr.decode.search import Unavailable
from asr.types import EncoderOut, Hypothesis, Targets

PATHS = 16
"""Paths of each utterance that are scored together, which bounds the memory of long n-best lists."""


class AttentionRescorer:
    """Log-probabilities of whole hypotheses, ends included, by the attention decoder. Unlike a scorer it looks at the audio, so that
    it is for second passes only."""

    class Config(BaseScorerConfig):
        type: Literal["attention"] = "attention"
        scale: float = 0.5

    def __init__(self, config: "AttentionRescorer.Config", tokenizer: Any, lang: Any, model: Any) -> None:
        if getattr(model, "attention", None) is None:
            raise Unavailable("this model has no attention decoder: train it with 'model.attention: {}' and an attention loss")
        self.decoder = model.attention

    def totals(self, encoder_out: EncoderOut, paths: Sequence[Sequence[Hypothesis]]) -> list[float]:
        """Of all paths of the first utterance, all of the second, and so on."""
        totals: list[list[float]] = [[] for _ in paths]
        for first in range(0, max(map(len, paths), default=0), PATHS):
            groups = [of_utterance[first : first + PATHS] for of_utterance in paths]
            most = max(map(len, groups))
            rows = [group[p].tokens if p < len(group) else () for group in groups for p in range(most)]
            targets = Targets.from_lists(rows).to(encoder_out.frames_BSD.device)
            found_BP = self.decoder.log_probs(targets.tokens_BU, targets.lens_B, encoder_out).view(len(paths), most).tolist()
            for total, group, found in zip(totals, groups, found_BP):
                total += found[: len(group)]
        return [value for total in totals for value in total]
