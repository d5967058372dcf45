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
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from asr.decode.history import History, Step, after
from asr.decode.scorers import Fusion, FusionState, ScorerConfig, rearrange
from asr.decode.stepping import Frames, stepping
from asr.decode.streaming import FrameSearch
from asr.decode.topology import Topology, TopologyConfig
from asr.models.layers import fixed
from asr.types import BLANK, EncoderOut, Hypothesis

START_OF_HASH, SPREAD, MIX = 0x6A09E667F3BCC909, 0x3C6EF372FE94F82B, 0x1F83D9ABFB41BD6B
"""Odd constants without structure (digits of square roots)."""


NEVER = 1 << 40
"""The place of a dead slot: no utterance gets there."""


@dataclass
class Beam:
    """What a step starts from.

    rows_B: the utterances, with their frames lens_B. place_B: the earliest of the places of each, see ``Topology``.
    scores_BK: log-probabilities, scorers included; hashes_BK: int64 hashes of the token sequences; places_BK: of each hypothesis,
    NEVER for a dead slot.
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

    @staticmethod
    def of_all(beams: Sequence["Beam"]) -> "Beam":
        """The beams of all utterances of several, in the order of ``rows_B``."""
        columns = [[getattr(beam, field.name) for beam in beams] for field in fields(Beam)]
        whole = Beam(*[_concatenated(column) for column in columns])
        return whole.utterances(whole.rows_B.argsort())


def _concatenated(column: list[Any]) -> Any:
    first = column[0]
    if isinstance(first, Tensor):
        return torch.cat(column)
    if isinstance(first, FusionState):
        return FusionState(*[_concatenated([getattr(part, field.name) for part in column]) for field in fields(FusionState)])
    return None if first is None else type(first)(_concatenated(list(parts)) for parts in zip(*column))


@dataclass
class Choice:
    """The new slots of a step: the slot each comes from, the token it takes (BLANK also where it waits), score and place, and the
    model's probability of the token."""

    parents_BK: Tensor
    tokens_BK: Tensor
    scores_BK: Tensor
    places_BK: Tensor
    confidences_BK: Tensor


@dataclass
class StreamState:
    """Between two pieces of the utterances.

    pending: frames that are not done with; origin_B: how many were before them. beam: of all utterances, its places counted from
    there. offset_B: float64, to be added to its scores. history: what its hypotheses have emitted.
    """

    pending: EncoderOut
    origin_B: Tensor
    beam: Beam
    offset_B: Tensor
    history: History


class ModifiedBeam(FrameSearch):
    """Best first by score / (tokens + context blanks), the ranking icefall's recipes use."""

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

    @torch.no_grad()
    def start(self, streams: int) -> StreamState:
        k, device = self.config.beam, self.kind_X.device
        out_ND, state = self.predictor.start(streams * k, device)
        scores_BK = torch.full((streams, k), -math.inf, device=device)
        scores_BK[:, 0] = 0.0
        places_BK = torch.full((streams, k), NEVER, device=device)
        places_BK[:, 0] = 0
        none_B = torch.zeros(streams, dtype=torch.int64, device=device)
        beam = Beam(
            rows_B=torch.arange(streams, device=device), lens_B=none_B, place_B=none_B, scores_BK=scores_BK,
            hashes_BK=torch.full((streams, k), START_OF_HASH, dtype=torch.int64, device=device), places_BK=places_BK,
            predictor_NJ=self.joiner.project_predictor(out_ND), state=tuple(part.clone() for part in state),
            fusion=self.fusion.start(streams * k, device) if self.fusion else None,
        )
        return StreamState(EncoderOut(scores_BK.new_zeros(streams, 0, 0), none_B), none_B, beam, none_B.double(), History(streams, k))

    @torch.no_grad()
    def finish(self, state: StreamState) -> list[list[Hypothesis]]:
        return self._read(self._search(state, state.pending.lens_B), final=True)

    @torch.no_grad()
    def hypotheses(self, state: StreamState) -> list[list[Hypothesis]]:
        return self._read(state, final=False)

    def _search(self, state: StreamState, until_B: Tensor) -> StreamState:
        beam, steps, done = replace(state.beam, lens_B=state.pending.lens_B), [], []
        until_B = self.topology.first_places(until_B)
        if not bool((beam.place_B < until_B).any()):
            return state
        frames = Frames(self.joiner, state.pending.frames_BSD, visits_all=not self.topology.jumps)
        while True:
            unfinished_B = beam.place_B < until_B[beam.rows_B]
            if not bool(unfinished_B.all()):
                done.append(beam.utterances((~unfinished_B).nonzero().squeeze(1)))
                beam = beam.utterances(unfinished_B.nonzero().squeeze(1))
            if not len(beam.rows_B):
                break
            choice = self._choose_token(beam, frames) if self.topology.lockstep else self._choose_move(beam, frames)
            steps.append(self._noted(beam, choice))
            beam = self._extend(beam, choice)
        state.history.extend(steps, state.origin_B)
        beam = Beam.of_all(done)
        used_B, best_B = self.topology.frames(beam.place_B), beam.scores_BK.max(1).values
        used_places_B = self.topology.first_places(used_B)
        beam = replace(
            beam, place_B=beam.place_B - used_places_B, places_BK=beam.places_BK - used_places_B.unsqueeze(1),
            scores_BK=beam.scores_BK - best_B.unsqueeze(1),
        )
        return StreamState(after(state.pending, used_B), state.origin_B + used_B, beam, state.offset_B + best_B, state.history)

    def _noted(self, beam: Beam, choice: Choice) -> Step:
        frames_BK = self.topology.frames(beam.place_B).unsqueeze(1).expand_as(choice.tokens_BK)
        durations_BK = self.topology.frames(choice.places_BK) - frames_BK if self.topology.learnt else None
        return Step(beam.rows_B, choice.parents_BK, choice.tokens_BK, frames_BK, choice.confidences_BK, durations_BK)

    def _choose_token(self, beam: Beam, frames: Frames) -> Choice:
        """The K best of all tokens of all hypotheses, where all are at the same frame and go on to the next."""
        count, k = beam.scores_BK.shape
        encoder_B1J = frames.at(beam.rows_B, beam.place_B).unsqueeze(1)
        log_probs_BKV, _ = self.topology.log_probs(self.joiner(encoder_B1J, beam.predictor_NJ.view(count, k, -1)))
        scores_BKV = log_probs_BKV + beam.scores_BK.unsqueeze(2)
        if beam.fusion is not None:
            scores_BKV += beam.fusion.fused_NV.view(scores_BKV.shape)
        scores_BK, choice_BK = scores_BKV.flatten(1).topk(k)
        parents_BK = torch.div(choice_BK, scores_BKV.shape[2], rounding_mode="floor")
        tokens_BK = choice_BK - parents_BK * scores_BKV.shape[2]
        blanks_BK = log_probs_BKV[:, :, BLANK].gather(1, parents_BK)
        confidences_BK = self.topology.unpenalised(log_probs_BKV.flatten(1).gather(1, choice_BK), blanks_BK)
        return Choice(parents_BK, tokens_BK, scores_BK, (beam.place_B + 1).unsqueeze(1).expand(-1, k), confidences_BK)

    def _choose_move(self, beam: Beam, frames: Frames) -> Choice:
        """The K best of all that hypotheses can do: those at the earliest place take a token or blank and a duration, others wait.

        M counts the former, X blank and the C best tokens of each (more than K of one hypothesis cannot be among the K best), Y = X * L
        all that one can do; waiting is the first of them.
        """
        count, k = beam.scores_BK.shape
        ready_M = (beam.places_BK == beam.place_B.unsqueeze(1)).view(-1).nonzero().squeeze(1)
        utterance_M = torch.div(ready_M, k, rounding_mode="floor")
        encoder_MJ = frames.at(beam.rows_B, self.topology.frames(beam.place_B))[utterance_M]
        log_probs_MV, lasting_ML = self.topology.log_probs(self.joiner(encoder_MJ, beam.predictor_NJ[ready_M]))
        scores_MV = log_probs_MV + beam.scores_BK.view(-1, 1)[ready_M]
        if beam.fusion is not None:
            scores_MV += beam.fusion.fused_NV[ready_M]
        best_MC, token_MC = scores_MV[:, 1:].topk(len(self.kind_X) - 1)
        scores_MX = torch.cat([scores_MV[:, :1], best_MC], dim=1)
        tokens_MX = F.pad(token_MC + 1, (1, 0), value=BLANK)
        confidences_MX = self.topology.unpenalised(log_probs_MV.gather(1, tokens_MX), log_probs_MV[:, :1])

        places_B2L, lasting_M2L = self.topology.landings(beam.place_B, beam.lens_B, lasting_ML, utterance_M)
        scores_MXL = scores_MX.unsqueeze(2) + lasting_M2L.index_select(1, self.kind_X)

        scores_NY = torch.full((count * k, scores_MXL[0].numel()), -math.inf, device=ready_M.device)
        scores_NY[:, 0] = beam.scores_BK.view(-1)
        places_NY = beam.places_BK.view(-1, 1).repeat(1, scores_NY.shape[1])
        scores_NY.index_copy_(0, ready_M, scores_MXL.flatten(1))
        places_NY.index_copy_(0, ready_M, places_B2L.index_select(1, self.kind_X).flatten(1).index_select(0, utterance_M))
        scores_BK, choice_BK = scores_NY.view(count, -1).topk(k)
        parents_BK = torch.div(choice_BK, scores_NY.shape[1], rounding_mode="floor")
        places_BK = places_NY.view(count, -1).gather(1, choice_BK)
        kinds_BK = torch.div(choice_BK, lasting_ML.shape[1], rounding_mode="floor")  # X and Y are both counted on from slot to slot
        tokens_NX = torch.full((count * k, len(self.kind_X)), BLANK, device=ready_M.device).index_copy_(0, ready_M, tokens_MX)
        confidences_NX = scores_NY.new_zeros(tokens_NX.shape).index_copy_(0, ready_M, confidences_MX)
        tokens_BK, confidences_BK = (values_NX.view(count, -1).gather(1, kinds_BK) for values_NX in (tokens_NX, confidences_NX))
        return Choice(parents_BK, tokens_BK, scores_BK, places_BK, confidences_BK)

    def _extend(self, beam: Beam, choice: Choice) -> Beam:
        """The beam after ``choice``: equal hypotheses merged, those that took a token with new predictions. ``beam`` is given up."""
        hashes_BK = extend_hashes(beam.hashes_BK.gather(1, choice.parents_BK), choice.tokens_BK)
        together = self.topology.lockstep  # all at one place: it tells no hypotheses apart, and no dead slot is left behind
        scores_BK = merge(choice.scores_BK, hashes_BK if together else hashes_BK + choice.places_BK * SPREAD)
        alive_BK = scores_BK > -math.inf
        places_BK, place_B = choice.places_BK, beam.place_B + 1
        if not together:
            places_BK = places_BK.masked_fill(~alive_BK, NEVER)
            place_B = places_BK.min(1).values

        tokens_BK = choice.tokens_BK.masked_fill(~alive_BK, BLANK)
        rearrange([beam.predictor_NJ, *beam.state, *(beam.fusion.tensors() if beam.fusion is not None else ())], choice.parents_BK)
        grown = (tokens_BK != BLANK).view(-1).nonzero().squeeze(1)
        if len(grown):
            taken = tokens_BK.view(-1)[grown]
            if beam.fusion is not None:
                self.fusion.step(beam.fusion, grown, taken)
            out, new_state = self.predictor.step(taken, tuple(part.index_select(0, grown) for part in beam.state))
            beam.predictor_NJ.index_copy_(0, grown, self.joiner.project_predictor(out))
            for part, new in zip(beam.state, new_state):
                part.index_copy_(0, grown, new)
        return replace(beam, place_B=place_B, scores_BK=scores_BK, hashes_BK=hashes_BK, places_BK=places_BK)

    def _read(self, state: StreamState, final: bool) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, best first. final: with the scores of the ends."""
        scores_BK = state.beam.scores_BK.double() + state.offset_B.unsqueeze(1)
        return self.fusion.nbest(
            scores_BK, state.beam.fusion, state.history.of, final, durations=self.topology.learnt,
            rank=lambda score, tokens: score / (tokens + self.context),
        )


def extend_hashes(hashes: Tensor, tokens: Tensor) -> Tensor:
    """int64 hashes of sequences after ``tokens``; blank leaves them as they are. Arithmetic is modulo 2^64; the last step mixes
    high bits into low ones. For one sequence, different tokens never collide: each step is a bijection."""
    mixed = (hashes + tokens * SPREAD) * MIX
    mixed = mixed ^ (mixed >> 29)
    return torch.where(tokens == BLANK, hashes, mixed)


def merge(scores: Tensor, keys: Tensor) -> Tensor:
    """Scores (..., X) after those of equal keys (..., X) have been log-added into the first of them; the others get -inf."""
    equal = keys.unsqueeze(-1) == keys.unsqueeze(-2)
    later = equal.tril(-1).any(-1)
    if not later.any():
        return scores
    totals = scores.unsqueeze(-2).masked_fill(~equal, -math.inf).logsumexp(-1)
    return totals.masked_fill(later, -math.inf)
