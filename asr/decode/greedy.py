"""Greedy search of a transducer, all utterances at once.

Each utterance is at a frame of its own. One step looks at the next ``WINDOW`` frames of all of them with the tokens they
have, and goes to the first that is not blank: as many steps as the longest utterance has tokens and windows of blanks,
not as it has frames. The idea is label looping, Bataev et al., "Label-looping: highly efficient decoding for transducers", 2024.
Shape legend: asr/types.py; J is the joiner's dimension, W the window.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from asr.decode.search import TransducerSearchConfig, blank_penalised, posteriors
from asr.decode.stepping import stepping
from asr.types import BLANK, EncoderOut, Hypothesis

WINDOW = 8
"""Frames looked at together: a result never depends on it, the speed does."""


class Greedy:
    class Config(TransducerSearchConfig):
        """max_symbols_per_frame: tokens after which the search moves on to the next frame even without a blank."""

        type: Literal["greedy"] = "greedy"
        max_symbols_per_frame: int = Field(default=1, ge=1)

    def __init__(self, config: "Greedy.Config", model: Any, tokenizer: Any = None, lang: Any = None) -> None:
        self.config = config
        self.model = model
        self.predictor = stepping(model.predictor)

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        count = len(encoder_out.lens_B)
        tokens: list[list[int]] = [[] for _ in range(count)]
        frames: list[list[int]] = [[] for _ in range(count)]
        score_B = torch.zeros(count, dtype=torch.float64, device=encoder_out.lens_B.device)
        for row, frame, token in self._emissions(encoder_out, score_B):
            tokens[row].append(token)
            frames[row].append(frame)
        confidences = posteriors(self.model, encoder_out, tokens, frames)
        return [
            [Hypothesis(tuple(y), score, {"model": score}, frames=tuple(f), confidences=tuple(c))]
            for y, f, c, score in zip(tokens, frames, confidences, score_B.tolist())
        ]

    def _emissions(self, encoder_out: EncoderOut, score_B: Tensor) -> list[tuple[int, int, int]]:
        """(utterance, frame, token), in order within each utterance; log-probabilities are added to ``score_B``."""
        joiner, predictor = self.model.joiner, self.predictor
        encoder_BSJ = joiner.project_encoder(encoder_out.frames_BSD)
        device = encoder_BSJ.device
        window_W = torch.arange(WINDOW, device=device)
        rows_N = (encoder_out.lens_B > 0).nonzero().squeeze(1)
        lens_N = encoder_out.lens_B[rows_N]
        frame_N = torch.zeros_like(rows_N)
        emitted_N = torch.zeros_like(rows_N)  # tokens emitted at the current frame
        out_ND, state = predictor.start(len(rows_N), device)
        predictor_NJ = joiner.project_predictor(out_ND)
        steps: list[Tensor] = []
        while len(rows_N):
            frames_NW = frame_N.unsqueeze(1) + window_W
            inside_NW = frames_NW < lens_N.unsqueeze(1)
            encoder_NWJ = encoder_BSJ[rows_N.unsqueeze(1), frames_NW.clamp(max=encoder_BSJ.shape[1] - 1)]
            best_NW, token_NW = blank_penalised(joiner(encoder_NWJ, predictor_NJ.unsqueeze(1)), self.config.blank_penalty).max(-1)
            found_NW = (token_NW != BLANK) & inside_NW
            found_N, first_N = found_NW.max(1)
            passed_N = torch.where(found_N, first_N, WINDOW - 1)
            counts_NW = inside_NW & (window_W <= passed_N.unsqueeze(1))
            score_B.index_add_(0, rows_N, (best_NW * counts_NW).sum(1).double())

            token_N = token_NW.gather(1, passed_N.unsqueeze(1)).squeeze(1)
            hits = found_N.nonzero().squeeze(1)
            if len(hits):
                steps.append(torch.stack([rows_N, frame_N + passed_N, token_N])[:, hits])
                out_HD, new_state = predictor.step(token_N[hits], tuple(part[hits] for part in state))
                predictor_NJ = predictor_NJ.index_copy(0, hits, joiner.project_predictor(out_HD))
                state = tuple(part.index_copy(0, hits, new) for part, new in zip(state, new_state))

            emitted_N = torch.where(found_N, torch.where(first_N > 0, 1, emitted_N + 1), 0)
            stays_N = found_N & (emitted_N < self.config.max_symbols_per_frame)
            emitted_N = emitted_N * stays_N
            frame_N = frame_N + passed_N + (~stays_N).long()

            left = (frame_N < lens_N).nonzero().squeeze(1)
            if len(left) < len(rows_N):
                rows_N, lens_N, frame_N, emitted_N = rows_N[left], lens_N[left], frame_N[left], emitted_N[left]
                predictor_NJ, state = predictor_NJ[left], tuple(part[left] for part in state)
        if not steps:
            return []
        return [tuple(step) for step in torch.cat(steps, dim=1).t().tolist()]  # type: ignore[misc]
