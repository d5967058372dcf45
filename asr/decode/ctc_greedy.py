"""CTC best path: the likeliest token of each frame, repeats merged, blanks dropped (Graves et al., ICML 2006, section 3.2)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from asr.decode.history import Emission, hypothesis
from asr.decode.search import BlankPenaltyConfig, Unavailable, blank_penalised
from asr.types import BLANK, EncoderOut, Hypothesis


@dataclass
class StreamState:
    """Of each utterance: what it has emitted, the label of its last frame, its frames and score so far."""

    emissions: list[list[Emission]]
    label_B: np.ndarray
    frames_B: np.ndarray
    score_B: np.ndarray


class CtcGreedy:
    """A token's frame is where its run starts, its duration the length of the run, its confidence the highest posterior in it."""

    class Config(BlankPenaltyConfig):
        type: Literal["ctc_greedy"] = "ctc_greedy"

    def __init__(self, config: "CtcGreedy.Config", model: Any, tokenizer: Any = None, lang: Any = None) -> None:
        need_ctc_head(model)
        self.config = config
        self.model = model

    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        return self.finish(self.advance(encoder_out, self.start(len(encoder_out.lens_B))))

    def start(self, streams: int) -> StreamState:
        none_B = np.zeros(streams, dtype=np.int64)
        return StreamState([[] for _ in range(streams)], np.full(streams, BLANK), none_B, none_B.astype(np.float64))

    @torch.no_grad()
    def advance(self, encoder_out: EncoderOut, state: StreamState) -> StreamState:
        if not encoder_out.frames_BSD.shape[1]:
            return state
        log_probs_BSV = self.model.ctc_log_probs(encoder_out)
        if self.config.blank_penalty:
            log_probs_BSV = blank_penalised(log_probs_BSV, self.config.blank_penalty)
        best_BS, label_BS = (part.cpu().numpy() for part in log_probs_BSV.max(-1))
        lens_B = encoder_out.lens_B.cpu().numpy()
        inside_BS = np.arange(best_BS.shape[1]) < lens_B[:, None]
        label_BS = np.where(inside_BS, label_BS, BLANK)
        starts_BS = np.ones_like(inside_BS)  # whether a run of equal labels starts here
        starts_BS[:, 1:] = label_BS[:, 1:] != label_BS[:, :-1]
        top_BS = np.zeros_like(best_BS)
        top_BS[starts_BS] = np.maximum.reduceat(best_BS.ravel(), np.flatnonzero(starts_BS))
        ends_BS = np.ones_like(inside_BS)  # whether it ends here
        ends_BS[:, :-1] = starts_BS[:, 1:]
        for row, emissions in enumerate(state.emissions):
            frames = np.flatnonzero(starts_BS[row] & (label_BS[row] != BLANK))
            durations = np.flatnonzero(ends_BS[row] & (label_BS[row] != BLANK)) - frames + 1
            columns = label_BS[row, frames], state.frames_B[row] + frames, durations, np.exp(top_BS[row, frames])
            for found in map(Emission, *(column.tolist() for column in columns)):
                if found.frame == state.frames_B[row] and found.token == state.label_B[row]:  # the last run goes on
                    last = emissions.pop()
                    confidence = max(last.confidence, found.confidence)
                    found = last._replace(duration=last.duration + found.duration, confidence=confidence)
                emissions.append(found)
        last_B = np.where(lens_B > 0, label_BS[np.arange(len(lens_B)), np.maximum(lens_B - 1, 0)], state.label_B)
        score_B = state.score_B + best_BS.sum(axis=1, where=inside_BS, dtype=np.float64)
        return StreamState(state.emissions, last_B, state.frames_B + lens_B, score_B)

    def hypotheses(self, state: StreamState) -> list[list[Hypothesis]]:
        pairs = zip(state.emissions, state.score_B.tolist())
        return [[hypothesis(emissions, score, {"model": score}, durations=True)] for emissions, score in pairs]

    def finish(self, state: StreamState) -> list[list[Hypothesis]]:
        return self.hypotheses(state)


def need_ctc_head(model: Any) -> None:
    if model.ctc is None:
        raise Unavailable("the model has no CTC head ('model.ctc: {}' with a ctc loss trains one)")
