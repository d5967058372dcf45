"""Modified beam search of a transducer: at most one token per frame, batched over utterances and hypotheses.

Kang et al., "Fast and parallel decoding for transducer", ICASSP 2023, section 3, with any set of scorers. Everything lives in
tensors of K hypotheses per utterance; a dead slot has score -inf. Equal token sequences are found by a 64-bit hash of the
sequence (a collision within one beam has a chance of about K^2 / 2^64 per frame) and merged by log-add.
Shape legend: asr/types.py; K is the beam, N = B * K, J the joiner's dimension, R counts scorers.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from asr.decode.scorers import Fusion, FusionState, ScorerConfig
from asr.decode.search import TransducerSearchConfig, blank_penalised, posteriors
from asr.decode.stepping import stepping
from asr.types import BLANK, EncoderOut, Hypothesis

START_OF_HASH, SPREAD, MIX = 0x6A09E667F3BCC909, 0x3C6EF372FE94F82B, 0x1F83D9ABFB41BD6B
"""Odd constants without structure (digits of square roots)."""


@dataclass
class Beam:
    """What a frame starts from. Rows of finished utterances have been cut off.

    scores_BK: log-probabilities, scorers included; hashes_BK: int64 hashes of the token sequences.
    predictor_NJ, state: projected output and state of the predictor. fusion: state of the scorers, None without any.
    """

    scores_BK: Tensor
    hashes_BK: Tensor
    predictor_NJ: Tensor
    state: tuple[Tensor, ...]
    fusion: FusionState | None

    def utterances(self, start: int, end: int) -> "Beam":
        """The beams of the utterances from ``start`` to before ``end``."""
        k = self.scores_BK.shape[1]
        rows = torch.arange(start * k, end * k, device=self.scores_BK.device)
        return Beam(
            self.scores_BK[start:end],
            self.hashes_BK[start:end],
            self.predictor_NJ[rows],
            tuple(part[rows] for part in self.state),
            None if self.fusion is None else self.fusion.select(rows),
        )


@dataclass
class Trace:
    """How to read the hypotheses back: per frame the slot each came from and the token it took; and where they ended up.

    final_BK: score with the ends of utterances; parts_BKR: unscaled scores by scorer.
    """

    parents: list[Tensor] = field(default_factory=list)
    tokens: list[Tensor] = field(default_factory=list)
    final_BK: list[Tensor] = field(default_factory=list)
    parts_BKR: list[Tensor] = field(default_factory=list)


class ModifiedBeam:
    class Config(TransducerSearchConfig):
        """beam: hypotheses per utterance. scorers: added to the model's log-probability, each by its scale."""

        type: Literal["modified_beam"] = "modified_beam"
        beam: int = Field(default=4, ge=1)
        scorers: dict[str, ScorerConfig] = {}  # type: ignore[valid-type]

        def lang_files(self) -> tuple[str, ...]:
            return tuple(file for scorer in self.scorers.values() for file in scorer.lang_files())

    def __init__(self, config: "ModifiedBeam.Config", model: Any, tokenizer: Any, lang: Any = None) -> None:
        self.config = config
        self.model = model
        self.predictor = stepping(model.predictor)
        self.fusion = Fusion(config.scorers, tokenizer, lang)
        self.context = getattr(model.predictor, "context_size", 1)

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """Best first by score / (tokens + context blanks), the ranking icefall's recipes use."""
        order_B = encoder_out.lens_B.argsort(descending=True, stable=True)
        lens = encoder_out.lens_B[order_B].tolist()
        trace = self._search(encoder_out.frames_BSD[order_B], lens)
        results: list[list[Hypothesis]] = [[] for _ in lens]
        for place, hypotheses in zip(order_B.tolist(), self._read(trace, lens)):
            results[place] = hypotheses
        return self._with_confidences(encoder_out, results)

    def _search(self, frames_BSD: Tensor, lens: list[int]) -> Trace:
        """Runs over utterances in order of falling length, so that the active ones are always the first."""
        encoder_BSJ = self.model.joiner.project_encoder(frames_BSD)
        beam = self._start(len(lens), encoder_BSJ.device)
        trace = Trace()
        active = len(lens)
        for s in range(max(lens, default=0)):
            while lens[active - 1] <= s:
                active -= 1
            beam = self._cut(beam, active, trace)
            beam, parent_BK, token_BK = self._advance(beam, encoder_BSJ[:active, s])
            trace.parents.append(parent_BK)
            trace.tokens.append(token_BK)
        self._cut(beam, 0, trace)
        return trace

    def _start(self, count: int, device: torch.device) -> Beam:
        k = self.config.beam
        out_ND, state = self.predictor.start(count * k, device)
        scores_BK = torch.full((count, k), -math.inf, device=device)
        scores_BK[:, 0] = 0.0
        hashes_BK = torch.full((count, k), START_OF_HASH, dtype=torch.int64, device=device)
        fusion = self.fusion.start(count * k, device) if self.fusion else None
        return Beam(scores_BK, hashes_BK, self.model.joiner.project_predictor(out_ND), state, fusion)

    def _advance(self, beam: Beam, encoder_BJ: Tensor) -> tuple[Beam, Tensor, Tensor]:
        """One frame: the new beam, and of each of its slots the parent (B, K) and the token (B, K)."""
        count, k = beam.scores_BK.shape
        logits_BKV = self.model.joiner(encoder_BJ.unsqueeze(1), beam.predictor_NJ.view(count, k, -1))
        scores_BKV = blank_penalised(logits_BKV, self.config.blank_penalty) + beam.scores_BK.unsqueeze(2)
        if beam.fusion is not None:
            scores_BKV += beam.fusion.fused_NV.view(scores_BKV.shape)
        vocabulary = scores_BKV.shape[2]
        scores_BK, choice_BK = scores_BKV.view(count, -1).topk(k)
        parent_BK = torch.div(choice_BK, vocabulary, rounding_mode="floor")
        token_BK = choice_BK - parent_BK * vocabulary
        hashes_BK = extend_hashes(beam.hashes_BK.gather(1, parent_BK), token_BK)
        scores_BK = merge(scores_BK, hashes_BK)

        rows_N = (parent_BK + torch.arange(0, count * k, k, device=parent_BK.device).unsqueeze(1)).view(-1)
        predictor_NJ = beam.predictor_NJ.index_select(0, rows_N)
        state = tuple(part.index_select(0, rows_N) for part in beam.state)
        fusion = None if beam.fusion is None else beam.fusion.select(rows_N)
        tokens_N = token_BK.view(-1)
        grown = ((tokens_N != BLANK) & (scores_BK.view(-1) > -math.inf)).nonzero().squeeze(1)
        if len(grown):
            grown_tokens = tokens_N[grown]
            out, new_state = self.predictor.step(grown_tokens, tuple(part.index_select(0, grown) for part in state))
            predictor_NJ.index_copy_(0, grown, self.model.joiner.project_predictor(out))
            for part, new in zip(state, new_state):
                part.index_copy_(0, grown, new)
            if fusion is not None:
                self.fusion.step(fusion, grown, grown_tokens)
        return Beam(scores_BK, hashes_BK, predictor_NJ, state, fusion), parent_BK, token_BK

    def _cut(self, beam: Beam, active: int, trace: Trace) -> Beam:
        """Leaves the first ``active`` utterances; the scores of the finished ones go to ``trace`` (last utterance first)."""
        count, k = beam.scores_BK.shape
        if active == count:
            return beam
        finished = beam.utterances(active, count)
        final_BK = finished.scores_BK
        parts_BKR = final_BK.new_zeros(*final_BK.shape, 0)
        if finished.fusion is not None:
            totals_RN, ends_N = self.fusion.finish(finished.fusion)
            final_BK = final_BK + ends_N.view(-1, k)
            parts_BKR = totals_RN.t().reshape(-1, k, len(totals_RN))
        trace.final_BK.append(final_BK)
        trace.parts_BKR.append(parts_BKR)
        return beam.utterances(0, active)

    def _read(self, trace: Trace, lens: list[int]) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, best first, in the order of the search (falling length)."""
        final_BK = torch.cat(trace.final_BK[::-1]).cpu()
        parts_BKR = torch.cat(trace.parts_BKR[::-1]).cpu()
        token_SBK = trace_back(trace, len(lens), self.config.beam)
        scales_R = self.fusion.scales_R.cpu()
        model_BK = final_BK - (parts_BKR * scales_R).sum(-1)
        length_BK = torch.from_numpy((token_SBK != BLANK).sum(0)) + self.context
        ranks = (final_BK / length_BK).argsort(dim=1, descending=True, stable=True).tolist()
        final, model, parts = final_BK.tolist(), model_BK.tolist(), parts_BKR.tolist()
        results = []
        for b, ranking in enumerate(ranks):
            hypotheses: list[Hypothesis] = []
            for slot in ranking:
                if final[b][slot] == -math.inf and hypotheses:
                    break
                frames = np.flatnonzero(token_SBK[:, b, slot])
                tokens = token_SBK[frames, b, slot]
                scores = {"model": model[b][slot], **dict(zip(self.fusion.names, parts[b][slot]))}
                hypotheses.append(Hypothesis(tuple(tokens.tolist()), final[b][slot], scores, frames=tuple(frames.tolist())))
            results.append(hypotheses)
        return results

    def _with_confidences(self, encoder_out: EncoderOut, results: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        """Confidences of the best of each list: the others are for rescoring, which does not need them."""
        best = [hypotheses[0] for hypotheses in results]
        found = posteriors(self.model, encoder_out, [h.tokens for h in best], [h.frames or () for h in best])
        for hypotheses, values in zip(results, found):
            hypotheses[0] = replace(hypotheses[0], confidences=tuple(values))
        return results


def extend_hashes(hashes: Tensor, tokens: Tensor) -> Tensor:
    """int64 hashes of sequences after ``tokens``; blank leaves them as they are. Arithmetic is modulo 2^64; the last step mixes
    high bits into low ones. For one sequence, different tokens never collide: each step is a bijection."""
    mixed = (hashes + tokens * SPREAD) * MIX
    mixed = mixed ^ (mixed >> 29)
    return torch.where(tokens == BLANK, hashes, mixed)


def merge(scores_BK: Tensor, hashes_BK: Tensor) -> Tensor:
    """Scores after equal sequences of one utterance have been log-added into the first of them; the others get -inf.

    A slot equals at most one other: before a frame all slots differ, so a sequence comes from itself by a blank or from the
    one sequence without its last token.
    """
    slots_K = torch.arange(hashes_BK.shape[1], device=hashes_BK.device)
    same_BKK = (hashes_BK.unsqueeze(2) == hashes_BK.unsqueeze(1)) & (slots_K.unsqueeze(1) != slots_K)
    other_BK, place_BK = scores_BK.unsqueeze(1).masked_fill(~same_BKK, -math.inf).max(2)
    later_BK = (place_BK < slots_K) & (other_BK > -math.inf)
    return torch.logaddexp(scores_BK, other_BK).masked_fill(later_BK, -math.inf)


def trace_back(trace: Trace, count: int, k: int) -> np.ndarray:
    """(S, B, K) token that each final slot's hypothesis took at each frame, BLANK where it took none."""
    token_SBK = np.zeros((len(trace.tokens), count, k), dtype=np.int64)
    slot_BK = np.tile(np.arange(k), (count, 1))
    parents, tokens = ([step.cpu().numpy() for step in steps] for steps in (trace.parents, trace.tokens))
    for s in range(len(tokens) - 1, -1, -1):
        active = len(tokens[s])
        rows_B1 = np.arange(active)[:, None]
        token_SBK[s, :active] = tokens[s][rows_B1, slot_BK[:active]]
        slot_BK[:active] = parents[s][rows_B1, slot_BK[:active]]
    return token_SBK
