"""Frames that the CTC head is sure are blank, left out before a transducer search: Tian et al., "FSR: accelerating the inference process
of transducer-based models by applying fast-skip regularization", Interspeech 2021, section 3.1. Shape legend: asr/types.py.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from asr.decode.ctc_greedy import need_ctc_head
from asr.decode.search import Unavailable
from asr.types import BLANK, EncoderOut, Hypothesis


@dataclass
class StreamState:
    """inner: state of the search. kept: of each stream, the frames given to it so far; frames_B: all frames so far."""

    inner: Any
    kept: list[list[int]]
    frames_B: Tensor


class SkipBlank:
    """``search`` on the frames whose probability of blank is at most ``threshold``; times are of all frames, as without it."""

    def __init__(self, search: Any, model: Any, threshold: float) -> None:
        need_ctc_head(model)
        if model.joiner.durations:
            raise Unavailable("skip_blank is of no use to a token-and-duration model, which skips frames itself: set it to null")
        self.search = search
        self.context = getattr(search, "context", None)  # that a second pass ranks as the search does
        self.model = model
        self.threshold = threshold

    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        kept_out, kept = self._kept(encoder_out)
        return with_frames(self.search.decode(kept_out), kept)

    def start(self, streams: int) -> StreamState:
        none_B = torch.zeros(streams, dtype=torch.int64, device=next(self.model.parameters()).device)
        return StreamState(self.search.start(streams), [[] for _ in range(streams)], none_B)

    def advance(self, encoder_out: EncoderOut, state: StreamState) -> StreamState:
        kept_out, kept = self._kept(encoder_out)
        for all_kept, new, before in zip(state.kept, kept, state.frames_B.tolist()):
            all_kept += [before + frame for frame in new]
        return StreamState(self.search.advance(kept_out, state.inner), state.kept, state.frames_B + encoder_out.lens_B)

    def hypotheses(self, state: StreamState) -> list[list[Hypothesis]]:
        return with_frames(self.search.hypotheses(state.inner), state.kept)

    def finish(self, state: StreamState) -> list[list[Hypothesis]]:
        return with_frames(self.search.finish(state.inner), state.kept)

    @torch.no_grad()
    def _kept(self, encoder_out: EncoderOut) -> tuple[EncoderOut, list[list[int]]]:
        """What is left of the frames, and which ones these are."""
        frames_BSD = encoder_out.frames_BSD
        if not frames_BSD.shape[1]:
            return encoder_out, [[] for _ in encoder_out.lens_B]
        s = torch.arange(frames_BSD.shape[1], device=frames_BSD.device)
        blank_BS = self.model.ctc_log_probs(encoder_out)[:, :, BLANK].exp()
        keep_BS = (blank_BS <= self.threshold) & (s < encoder_out.lens_B.unsqueeze(1))
        lens_B = keep_BS.sum(1)
        first_BS = torch.argsort(torch.where(keep_BS, s, len(s)), dim=1, stable=True)[:, : int(lens_B.max())]
        kept_BSD = frames_BSD.gather(1, first_BS.unsqueeze(2).expand(-1, -1, frames_BSD.shape[2]))
        return EncoderOut(kept_BSD, lens_B), [row[:n] for row, n in zip(first_BS.tolist(), lens_B.tolist())]


def with_frames(results: list[list[Hypothesis]], kept: list[list[int]]) -> list[list[Hypothesis]]:
    """The same hypotheses, frame i of an utterance being frame ``kept[i]``."""
    def mapped(frames: tuple[int, ...] | None, kept_of: list[int]) -> tuple[int, ...] | None:
        return None if frames is None else tuple(kept_of[frame] for frame in frames)

    return [
        [replace(h, frames=mapped(h.frames, kept_of), word_frames=mapped(h.word_frames, kept_of)) for h in hypotheses]
        for hypotheses, kept_of in zip(results, kept)
    ]
