"""Modified beam search of a transducer, batched over utterances and hypotheses.

Kang et al., "Fast and parallel decoding for transducer", ICASSP 2023, section 3, with any set of scorers, and extended to tokens
that have learnt durations. Then the hypotheses of an utterance are at different frames: a step takes those at the earliest one,
tries the likeliest tokens of each with all durations, and lets the others wait, but all compete for the places of the beam.
Those with equal tokens at the same frame are merged by log-add, so that with room for all every score is a sum over all paths.
(Ready hypotheses have emitted equally many tokens at their frame, so merging loses nothing that ``max_symbols_per_frame`` needs.)
Everything lives in tensors of K hypotheses per utterance; a dead slot has score -inf. Equal token sequences are found by a 64-bit
hash (a collision within one beam has a chance of about K^2 / 2^64 per step).
Shape legend: asr/types.py; K is the beam, N = B * K, J the joiner's dimension, L the number of durations, R counts scorers.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from asr.decode.scorers import Fusion, FusionState, ScorerConfig
from asr.decode.search import posteriors
from asr.decode.stepping import Frames, stepping
from asr.decode.topology import Topology, TopologyConfig
from asr.models.layers import fixed
from asr.types import BLANK, EncoderOut, Hypothesis

START_OF_HASH, SPREAD, MIX = 0x6A09E667F3BCC909, 0x3C6EF372FE94F82B, 0x1F83D9ABFB41BD6B
"""Odd constants without structure (digits of square roots)."""


@dataclass
class Beam:
    """What a step starts from: the utterances that are not finished.

    rows_B: which ones, with their frames lens_B. place_B: the earliest of the places of each, see ``Topology``.
    scores_BK: log-probabilities, scorers included; hashes_BK: int64 hashes of the token sequences; places_BK: of each hypothesis;
    the end of the utterance for a dead slot.
    predictor_NJ, state: projected output and state of the predictor. fusion: state of the scorers, None without any.
    """

    rows_B: Tensor
    lens_B: Tensor
    place_B: Tensor
    scores_BK: Tensor
    hashes_BK: Tensor
    places_BK: Tensor
    predictor_NJ: Tensor
    state: tuple[Tensor, ...]
    fusion: FusionState | None

    def utterances(self, kept_A: Tensor) -> "Beam":
        """The beams of some of the utterances."""
        k = self.scores_BK.shape[1]
        rows = (kept_A.unsqueeze(1) * k + torch.arange(k, device=kept_A.device)).view(-1)
        return Beam(
            self.rows_B[kept_A], self.lens_B[kept_A], self.place_B[kept_A],
            self.scores_BK[kept_A], self.hashes_BK[kept_A], self.places_BK[kept_A],
            self.predictor_NJ[rows], tuple(part[rows] for part in self.state), None if self.fusion is None else self.fusion.select(rows),
        )


@dataclass
class Choice:
    """The new slots of a step: the slot each comes from, the token it takes (BLANK also where it waits), score and place."""

    parents_BK: Tensor
    tokens_BK: Tensor
    scores_BK: Tensor
    places_BK: Tensor


@dataclass
class Step:
    """The choice of a step, with the utterances it was for and their places."""

    rows_B: Tensor
    place_B: Tensor
    choice: Choice


@dataclass
class Trace:
    """How to read the hypotheses back: the steps, and how it ended.

    final_BK: score with the ends of utterances; parts_BKR: unscaled scores by scorer.
    """

    final_BK: Tensor
    parts_BKR: Tensor
    steps: list[Step] = field(default_factory=list)


class ModifiedBeam:
    class Config(TopologyConfig):
        """beam: hypotheses per utterance. scorers: added to the model's log-probability, each by its scale."""

        type: Literal["modified_beam"] = "modified_beam"
        beam: int = Field(default=4, ge=1)
        scorers: dict[str, ScorerConfig] = {}  # type: ignore[valid-type]

        def lang_files(self) -> tuple[str, ...]:
            return tuple(file for scorer in self.scorers.values() for file in scorer.lang_files())

    def __init__(self, config: "ModifiedBeam.Config", model: Any, tokenizer: Any, lang: Any = None) -> None:
        self.config = config
        self.model = model
        self.joiner = fixed(model.joiner)
        self.predictor = stepping(model.predictor)
        self.topology = Topology(model, config)
        self.fusion = Fusion(config.scorers, tokenizer, lang, model)
        self.context = getattr(model.predictor, "context_size", 1)
        self.kind_X = torch.ones(1 + min(config.beam, model.vocab_size - 1), dtype=torch.int64, device=self.topology.durations_L.device)
        self.kind_X[0] = 0
        self.is_token_21 = torch.arange(2, device=self.kind_X.device).bool().unsqueeze(1)

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """Best first by score / (tokens + context blanks), the ranking icefall's recipes use."""
        return self._with_confidences(encoder_out, self._read(self._search(encoder_out)))

    def _search(self, encoder_out: EncoderOut) -> Trace:
        frames = Frames(self.joiner, encoder_out.frames_BSD, visits_all=not self.topology.jumps)
        beam = self._start(encoder_out.lens_B)
        final_BK = torch.full_like(beam.scores_BK, -math.inf)
        trace = Trace(final_BK, final_BK.new_zeros(*final_BK.shape, len(self.fusion.names)))
        while True:
            beam = self._unfinished(beam, trace)
            if not len(beam.rows_B):
                return trace
            choice = self._choose_token(beam, frames) if self.topology.lockstep else self._choose_move(beam, frames)
            trace.steps.append(Step(beam.rows_B, beam.place_B, choice))
            beam = self._extend(beam, choice)

    def _start(self, lens_B: Tensor) -> Beam:
        count, k, device = len(lens_B), self.config.beam, lens_B.device
        out_ND, state = self.predictor.start(count * k, device)
        scores_BK = torch.full((count, k), -math.inf, device=device)
        scores_BK[:, 0] = 0.0
        places_BK = self.topology.first_places(lens_B).unsqueeze(1).repeat(1, k)
        places_BK[:, 0] = 0
        return Beam(
            rows_B=torch.arange(count, device=device), lens_B=lens_B, place_B=torch.zeros_like(lens_B), scores_BK=scores_BK,
            hashes_BK=torch.full((count, k), START_OF_HASH, dtype=torch.int64, device=device), places_BK=places_BK,
            predictor_NJ=self.joiner.project_predictor(out_ND), state=state,
            fusion=self.fusion.start(count * k, device) if self.fusion else None,
        )

    def _unfinished(self, beam: Beam, trace: Trace) -> Beam:
        """Leaves the utterances with a hypothesis that is not at the end; the scores of the finished ones go to ``trace``."""
        unfinished_B = beam.place_B < self.topology.first_places(beam.lens_B)
        left_A = unfinished_B.nonzero().squeeze(1)
        if len(left_A) == len(beam.rows_B):
            return beam
        finished = beam.utterances((~unfinished_B).nonzero().squeeze(1))
        final_BK = finished.scores_BK
        if finished.fusion is not None:
            totals_RN, ends_N = self.fusion.finish(finished.fusion)
            final_BK = final_BK + ends_N.view(final_BK.shape)
            trace.parts_BKR[finished.rows_B] = totals_RN.t().reshape(*final_BK.shape, -1)
        trace.final_BK[finished.rows_B] = final_BK
        return beam.utterances(left_A)

    def _choose_token(self, beam: Beam, frames: Frames) -> Choice:
        """The K best of all tokens of all hypotheses, where all are at the same frame and go on to the next."""
        count, k = beam.scores_BK.shape
        encoder_B1J = frames.at(beam.rows_B, beam.place_B).unsqueeze(1)
        fused_NV = None if beam.fusion is None else beam.fusion.fused_NV
        scores_BKV, _ = self._scores(encoder_B1J, beam.predictor_NJ.view(count, k, -1), beam.scores_BK, fused_NV)
        scores_BK, choice_BK = scores_BKV.flatten(1).topk(k)
        parents_BK = torch.div(choice_BK, scores_BKV.shape[2], rounding_mode="floor")
        tokens_BK = choice_BK - parents_BK * scores_BKV.shape[2]
        return Choice(parents_BK, tokens_BK, scores_BK, (beam.place_B + 1).unsqueeze(1).expand(-1, k))

    def _choose_move(self, beam: Beam, frames: Frames) -> Choice:
        """The K best of all that hypotheses can do: those at the earliest place take a token or blank and a duration, others wait.

        M counts the former, X blank and the C best tokens of each (more than K of one hypothesis cannot be among the K best), Y = X * L
        all that one can do; waiting is the first of them.
        """
        count, k = beam.scores_BK.shape
        ready_M = (beam.places_BK == beam.place_B.unsqueeze(1)).view(-1).nonzero().squeeze(1)
        utterance_M = torch.div(ready_M, k, rounding_mode="floor")
        encoder_MJ = frames.at(beam.rows_B, self.topology.frames(beam.place_B))[utterance_M]
        fused_MV = None if beam.fusion is None else beam.fusion.fused_NV[ready_M]
        scores_MV, lasting_ML = self._scores(encoder_MJ, beam.predictor_NJ[ready_M], beam.scores_BK.view(-1)[ready_M], fused_MV)
        best_MC, token_MC = scores_MV[:, 1:].topk(len(self.kind_X) - 1)
        scores_MX = torch.cat([scores_MV[:, :1], best_MC], dim=1)
        tokens_MX = F.pad(token_MC + 1, (1, 0), value=BLANK)

        durations_L, lens_M11 = self.topology.durations_L, beam.lens_B[utterance_M].view(-1, 1, 1)
        places_M2L = self.topology.move(beam.place_B[utterance_M].view(-1, 1, 1), durations_L, self.is_token_21, lens_M11)
        lasting_M2L = merge(lasting_ML.unsqueeze(1).expand(places_M2L.shape), places_M2L)
        scores_MXL = scores_MX.unsqueeze(2) + lasting_M2L.index_select(1, self.kind_X)

        scores_NY = torch.full((count * k, scores_MXL[0].numel()), -math.inf, device=ready_M.device)
        scores_NY[:, 0] = beam.scores_BK.view(-1)
        tokens_NY = torch.full_like(scores_NY, BLANK, dtype=torch.int64)
        places_NY = beam.places_BK.view(-1, 1).repeat(1, scores_NY.shape[1])
        scores_NY.index_copy_(0, ready_M, scores_MXL.flatten(1))
        tokens_NY.index_copy_(0, ready_M, tokens_MX.repeat_interleave(len(durations_L), dim=1))
        places_NY.index_copy_(0, ready_M, places_M2L.index_select(1, self.kind_X).flatten(1))
        scores_BK, choice_BK = scores_NY.view(count, -1).topk(k)
        parents_BK = torch.div(choice_BK, scores_NY.shape[1], rounding_mode="floor")
        tokens_BK, places_BK = (values_NY.view(count, -1).gather(1, choice_BK) for values_NY in (tokens_NY, places_NY))
        return Choice(parents_BK, tokens_BK, scores_BK, places_BK)

    def _scores(self, encoder: Tensor, predictor: Tensor, scores: Tensor, fused: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of hypotheses (...) with ``scores``: scores after each token (..., V), and log-probabilities of its duration (..., L)."""
        tokens, durations = self.topology.log_probs(self.joiner(encoder, predictor))
        tokens += scores.unsqueeze(-1)
        if fused is not None:
            tokens += fused.view(tokens.shape)
        return tokens, durations

    def _extend(self, beam: Beam, choice: Choice) -> Beam:
        """The beam after ``choice``: equal hypotheses merged, those that took a token with new predictions."""
        count, k = choice.scores_BK.shape
        hashes_BK = extend_hashes(beam.hashes_BK.gather(1, choice.parents_BK), choice.tokens_BK)
        together = self.topology.lockstep  # all at one place: it tells no hypotheses apart, and no dead slot is left behind
        scores_BK = merge(choice.scores_BK, hashes_BK if together else hashes_BK + choice.places_BK * SPREAD)
        alive_BK = scores_BK > -math.inf
        places_BK, place_B = choice.places_BK, beam.place_B + 1
        if not together:
            places_BK = torch.where(alive_BK, places_BK, self.topology.first_places(beam.lens_B).unsqueeze(1))
            place_B = places_BK.min(1).values

        rows_N = (choice.parents_BK + torch.arange(0, count * k, k, device=scores_BK.device).unsqueeze(1)).view(-1)
        predictor_NJ = beam.predictor_NJ.index_select(0, rows_N)
        state = tuple(part.index_select(0, rows_N) for part in beam.state)
        fusion = None if beam.fusion is None else beam.fusion.select(rows_N)
        grown = ((choice.tokens_BK != BLANK) & alive_BK).view(-1).nonzero().squeeze(1)
        if len(grown):
            tokens = choice.tokens_BK.view(-1)[grown]
            out, new_state = self.predictor.step(tokens, tuple(part.index_select(0, grown) for part in state))
            predictor_NJ.index_copy_(0, grown, self.joiner.project_predictor(out))
            for part, new in zip(state, new_state):
                part.index_copy_(0, grown, new)
            if fusion is not None:
                self.fusion.step(fusion, grown, tokens)
        return Beam(beam.rows_B, beam.lens_B, place_B, scores_BK, hashes_BK, places_BK, predictor_NJ, state, fusion)

    def _read(self, trace: Trace) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, best first."""
        final_BK, parts_BKR = trace.final_BK.cpu(), trace.parts_BKR.cpu()
        paths = trace_back(trace, self.topology)
        model_BK = final_BK - (parts_BKR * self.fusion.scales_R.cpu()).sum(-1)
        length_BK = torch.from_numpy((paths.tokens_SBK != BLANK).sum(0)) + self.context
        ranks = (final_BK / length_BK).argsort(dim=1, descending=True, stable=True).tolist()
        final, model, parts = final_BK.tolist(), model_BK.tolist(), parts_BKR.tolist()
        results = []
        for b, ranking in enumerate(ranks):
            hypotheses: list[Hypothesis] = []
            for slot in ranking:
                if final[b][slot] == -math.inf and hypotheses:
                    break
                scores = {"model": model[b][slot], **dict(zip(self.fusion.names, parts[b][slot]))}
                hypotheses.append(paths.hypothesis(b, slot, final[b][slot], scores))
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


def merge(scores: Tensor, keys: Tensor) -> Tensor:
    """Scores (..., X) after those of equal keys (..., X) have been log-added into the first of them; the others get -inf."""
    equal = keys.unsqueeze(-1) == keys.unsqueeze(-2)
    totals = scores.unsqueeze(-2).masked_fill(~equal, -math.inf).logsumexp(-1)
    return totals.masked_fill(equal.tril(-1).any(-1), -math.inf)


@dataclass
class Paths:
    """What each final slot's hypothesis did at each step: the token it took, BLANK where it took none (S, B, K), the frame where
    it was (S, B), and the frames it moved on by (S, B, K), None without learnt durations. S counts steps here."""

    tokens_SBK: np.ndarray
    frames_SB: np.ndarray
    durations_SBK: np.ndarray | None

    def hypothesis(self, b: int, slot: int, score: float, scores: dict[str, float]) -> Hypothesis:
        steps = np.flatnonzero(self.tokens_SBK[:, b, slot])
        tokens, frames = tuple(self.tokens_SBK[steps, b, slot].tolist()), tuple(self.frames_SB[steps, b].tolist())
        durations = None if self.durations_SBK is None else tuple(self.durations_SBK[steps, b, slot].tolist())
        return Hypothesis(tokens, score, scores, frames=frames, durations=durations)


def trace_back(trace: Trace, topology: Topology) -> Paths:
    count, k = trace.final_BK.shape
    tokens_SBK = np.full((len(trace.steps), count, k), BLANK, dtype=np.int64)
    frames_SB = np.zeros(tokens_SBK.shape[:2], dtype=np.int64)
    durations_SBK = np.zeros_like(tokens_SBK) if topology.learnt else None
    slots_BK = np.tile(np.arange(k), (count, 1))
    if not trace.steps:
        return Paths(tokens_SBK, frames_SB, durations_SBK)
    rows_A = _stacked([step.rows_B for step in trace.steps])  # A counts pairs of a step and an utterance, step by step
    frames_A = _stacked([step.place_B for step in trace.steps]) // topology.symbols
    tokens_AK = _stacked([step.choice.tokens_BK for step in trace.steps])
    parents_AK = _stacked([step.choice.parents_BK for step in trace.steps])
    ends_AK = _stacked([step.choice.places_BK for step in trace.steps]) // topology.symbols if topology.learnt else None
    end = len(rows_A)
    for s in range(len(trace.steps) - 1, -1, -1):
        start = end - len(trace.steps[s].rows_B)
        rows = rows_A[start:end]
        chosen = np.arange(start, end)[:, None], slots_BK[rows]
        tokens_SBK[s, rows] = tokens_AK[chosen]
        frames_SB[s, rows] = frames_A[start:end]
        if durations_SBK is not None and ends_AK is not None:
            durations_SBK[s, rows] = ends_AK[chosen] - frames_A[start:end, None]
        slots_BK[rows] = parents_AK[chosen]
        end = start
    return Paths(tokens_SBK, frames_SB, durations_SBK)


def _stacked(tensors: list[Tensor]) -> np.ndarray:
    return torch.cat(tensors).cpu().numpy()
