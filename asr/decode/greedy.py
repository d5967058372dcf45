"""Greedy search of a transducer, all utterances at once.

Each utterance is at a frame of its own. One step looks at the next frames of all of them with the tokens they have, and goes to
the first that is not blank: as many steps as the longest utterance has tokens and windows of blanks, not as it has frames. That is
label looping, Bataev et al., "Label-looping: highly efficient decoding for transducers", 2024. A model that has learnt durations
says itself which frame comes next, so that one frame is looked at, and those it jumps over never are.
Shape legend: asr/types.py; J is the joiner's dimension, W the window, L the number of durations.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from asr.decode.history import Emission, after, hypothesis
from asr.decode.stepping import Frames, stepping
from asr.decode.streaming import FrameSearch
from asr.decode.topology import Topology, TopologyConfig
from asr.models.layers import fixed
from asr.types import BLANK, EncoderOut, Hypothesis

WINDOW = 8
"""Frames looked at together where blanks advance by one: a result never depends on it, the speed does."""


@dataclass
class StreamState:
    """Between two pieces of the utterances.

    pending: frames that are not done with; origin_B: how many were before them. place_B: of each utterance, counted from there, see
    ``Topology``. predictor_BJ, state: projected output and state of the predictor. score_B: float64. emissions: of each utterance.
    """

    pending: EncoderOut
    origin_B: Tensor
    place_B: Tensor
    predictor_BJ: Tensor
    state: tuple[Tensor, ...]
    score_B: Tensor
    emissions: list[list[Emission]]


class Greedy(FrameSearch):
    """The score is the log-probability of the one path, durations included."""

    class Config(TopologyConfig):
        type: Literal["greedy"] = "greedy"

    def __init__(self, config: "Greedy.Config", model: Any, tokenizer: Any = None, lang: Any = None) -> None:
        self.joiner = fixed(model.joiner)
        self.predictor = stepping(model.predictor)
        self.topology = Topology(model, config)
        self.window = 1 if self.topology.jumps else WINDOW

    @torch.no_grad()
    def start(self, streams: int) -> StreamState:
        none_B = torch.zeros(streams, dtype=torch.int64, device=self.topology.durations_L.device)
        out_BD, state = self.predictor.start(streams, none_B.device)
        nothing = EncoderOut(out_BD.new_zeros(streams, 0, 0), none_B)
        predictor_BJ = self.joiner.project_predictor(out_BD)
        return StreamState(nothing, none_B, none_B, predictor_BJ, state, none_B.double(), [[] for _ in range(streams)])

    @torch.no_grad()
    def finish(self, state: StreamState) -> list[list[Hypothesis]]:
        return self.hypotheses(self._search(state, state.pending.lens_B))

    def hypotheses(self, state: StreamState) -> list[list[Hypothesis]]:
        pairs = zip(state.emissions, state.score_B.tolist())
        return [[hypothesis(emissions, score, {"model": score}, self.topology.learnt)] for emissions, score in pairs]

    def _search(self, before: StreamState, until_B: Tensor) -> StreamState:
        joiner, predictor, topology = self.joiner, self.predictor, self.topology
        frames_BSD, lens_B = before.pending.frames_BSD, before.pending.lens_B
        until_B = topology.first_places(until_B)
        rows_N = (before.place_B < until_B).nonzero().squeeze(1)
        if not len(rows_N):
            return before
        frames = Frames(joiner, frames_BSD, visits_all=not topology.jumps)
        window_W = torch.arange(self.window, device=frames_BSD.device)
        place_B, predictor_BJ, state_B = before.place_B.clone(), before.predictor_BJ.clone(), tuple(part.clone() for part in before.state)
        lens_N, until_N, place_N = lens_B[rows_N], until_B[rows_N], place_B[rows_N]
        predictor_NJ, state = predictor_BJ[rows_N], tuple(part[rows_N] for part in state_B)
        score_B = before.score_B.clone()
        steps: list[Tensor] = []
        confidences: list[Tensor] = []
        while len(rows_N):
            frames_NW = topology.frames(place_N).unsqueeze(1) + window_W
            inside_NW = frames_NW < lens_N.unsqueeze(1)
            encoder_NWJ = frames.at(rows_N.unsqueeze(1), frames_NW.clamp(max=frames_BSD.shape[1] - 1))
            tokens_NWV, durations_NWL = topology.log_probs(joiner(encoder_NWJ, predictor_NJ.unsqueeze(1)))
            best_NW, token_NW = tokens_NWV.max(-1)
            surest_NW, duration_NW = durations_NWL.max(-1)
            found_NW = (token_NW != BLANK) & inside_NW
            found_N, first_N = found_NW.max(1)
            passed_N = torch.where(found_N, first_N, self.window - 1)
            counts_NW = inside_NW & (window_W <= passed_N.unsqueeze(1))
            score_B.index_add_(0, rows_N, (best_NW + surest_NW).masked_fill(~counts_NW, 0.0).sum(1).double())

            passed_N1 = passed_N.unsqueeze(1)
            token_N, frame_N = token_NW.gather(1, passed_N1).squeeze(1), frames_NW.gather(1, passed_N1).squeeze(1)
            duration_N = topology.durations_L[duration_NW.gather(1, passed_N1).squeeze(1)]
            place_N = torch.where(passed_N > 0, topology.first_places(frame_N), place_N)
            place_N = topology.move(place_N, duration_N, found_N, lens_N)
            hits = found_N.nonzero().squeeze(1)
            if len(hits):
                confidence_NW = topology.unpenalised(best_NW, tokens_NWV[..., BLANK])
                confidences.append(confidence_NW.gather(1, passed_N1)[hits, 0])
                steps.append(torch.stack([rows_N, token_N, frame_N, topology.frames(place_N) - frame_N])[:, hits])
                out_HD, new_state = predictor.step(token_N[hits], tuple(part[hits] for part in state))
                predictor_NJ = predictor_NJ.index_copy(0, hits, joiner.project_predictor(out_HD))
                state = tuple(part.index_copy(0, hits, new) for part, new in zip(state, new_state))

            left_N = place_N < until_N
            if not bool(left_N.all()):
                done, left = (~left_N).nonzero().squeeze(1), left_N.nonzero().squeeze(1)
                for whole, part in zip((place_B, predictor_BJ, *state_B), (place_N, predictor_NJ, *state)):
                    whole.index_copy_(0, rows_N[done], part[done])
                rows_N, lens_N, until_N, place_N = rows_N[left], lens_N[left], until_N[left], place_N[left]
                predictor_NJ, state = predictor_NJ[left], tuple(part[left] for part in state)
        self._note(steps, confidences, before)
        used_B = topology.frames(place_B)
        return StreamState(
            after(before.pending, used_B), before.origin_B + used_B, place_B - topology.first_places(used_B), predictor_BJ, state_B,
            score_B, before.emissions,
        )

    @staticmethod
    def _note(steps: list[Tensor], confidences: list[Tensor], state: StreamState) -> None:
        """Adds what was emitted to ``state``; steps: rows, tokens, frames and durations."""
        if not steps:
            return
        rows, tokens, frames, durations = torch.cat(steps, dim=1).tolist()
        origins = state.origin_B.tolist()
        for row, token, frame, duration, confidence in zip(rows, tokens, frames, durations, torch.cat(confidences).tolist()):
            state.emissions[row].append(Emission(token, origins[row] + frame, duration, confidence))
