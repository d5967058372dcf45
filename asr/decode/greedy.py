"""Greedy search of a transducer, all utterances at once.

Each utterance is at a frame of its own. One step looks at the next frames of all of them with the tokens they have, and goes to
the first that is not blank: as many steps as the longest utterance has tokens and windows of blanks, not as it has frames. That is
label looping, Bataev et al., "Label-looping: highly efficient decoding for transducers", 2024. A model that has learnt durations
says itself which frame comes next, so that one frame is looked at, and those it jumps over never are.
Shape legend: asr/types.py; J is the joiner's dimension, W the window, L the number of durations.
"""
from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from asr.decode.stepping import Frames, stepping
from asr.decode.topology import Topology, TopologyConfig
from asr.models.layers import fixed
from asr.types import BLANK, EncoderOut, Hypothesis

WINDOW = 8
"""Frames looked at together where blanks advance by one: a result never depends on it, the speed does."""


class Emission(NamedTuple):
    """A token of the utterance ``row``, its frame, the frames to where the search went on, and the model's probability of it."""

    row: int
    frame: int
    token: int
    duration: int
    confidence: float


class Greedy:
    class Config(TopologyConfig):
        type: Literal["greedy"] = "greedy"

    def __init__(self, config: "Greedy.Config", model: Any, tokenizer: Any = None, lang: Any = None) -> None:
        self.joiner = fixed(model.joiner)
        self.predictor = stepping(model.predictor)
        self.topology = Topology(model, config)
        self.window = 1 if self.topology.jumps else WINDOW

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """The score is the log-probability of the one path, durations included."""
        emitted: list[list[Emission]] = [[] for _ in encoder_out.lens_B]
        score_B = torch.zeros(len(emitted), dtype=torch.float64, device=encoder_out.lens_B.device)
        for emission in self._emissions(encoder_out, score_B):
            emitted[emission.row].append(emission)
        return [[self._hypothesis(emissions, score)] for emissions, score in zip(emitted, score_B.tolist())]

    def _hypothesis(self, emissions: list[Emission], score: float) -> Hypothesis:
        return Hypothesis(
            tuple(e.token for e in emissions), score, {"model": score}, frames=tuple(e.frame for e in emissions),
            confidences=tuple(e.confidence for e in emissions),
            durations=tuple(e.duration for e in emissions) if self.topology.learnt else None,
        )

    def _emissions(self, encoder_out: EncoderOut, score_B: Tensor) -> list[Emission]:
        """In order within each utterance; log-probabilities are added to ``score_B``."""
        joiner, predictor, topology = self.joiner, self.predictor, self.topology
        frames_BSD, device = encoder_out.frames_BSD, encoder_out.frames_BSD.device
        frames = Frames(joiner, frames_BSD, visits_all=not topology.jumps)
        window_W = torch.arange(self.window, device=device)
        rows_N = (encoder_out.lens_B > 0).nonzero().squeeze(1)
        lens_N = encoder_out.lens_B[rows_N]
        place_N = torch.zeros_like(rows_N)
        out_ND, state = predictor.start(len(rows_N), device)
        predictor_NJ = joiner.project_predictor(out_ND)
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
                steps.append(torch.stack([rows_N, frame_N, token_N, topology.frames(place_N) - frame_N])[:, hits])
                out_HD, new_state = predictor.step(token_N[hits], tuple(part[hits] for part in state))
                predictor_NJ = predictor_NJ.index_copy(0, hits, joiner.project_predictor(out_HD))
                state = tuple(part.index_copy(0, hits, new) for part, new in zip(state, new_state))

            left = (place_N < topology.first_places(lens_N)).nonzero().squeeze(1)
            if len(left) < len(rows_N):
                rows_N, lens_N, place_N = rows_N[left], lens_N[left], place_N[left]
                predictor_NJ, state = predictor_NJ[left], tuple(part[left] for part in state)
        if not steps:
            return []
        rows, places, tokens, durations = torch.cat(steps, dim=1).tolist()
        return [Emission(*values) for values in zip(rows, places, tokens, durations, torch.cat(confidences).tolist())]
