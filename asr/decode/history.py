"""What searches have emitted so far, kept so that the hypotheses of a beam share what they have in common, however long a recording is.

Shape legend: asr/types.py; K is the beam, S counts steps of a search here.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from asr.types import BLANK, EncoderOut, Hypothesis


class Emission(NamedTuple):
    """A token, its frame, the frames it lasts (0 where the model has not learnt that), and the model's probability of it."""

    token: int
    frame: int
    duration: int
    confidence: float


def hypothesis(emissions: Sequence[Emission], score: float, scores: Mapping[str, float], durations: bool = False) -> Hypothesis:
    """durations: whether the model has learnt them."""
    tokens, frames, lasting, confidences = zip(*emissions) if emissions else ((), (), (), ())
    return Hypothesis(tokens, score, scores, frames, confidences, durations=lasting if durations else None)


@dataclass
class Step:
    """What some utterances ``rows_A`` did: the slot that each new slot comes from, and what it emitted, BLANK where nothing.

    parents, tokens, frames: int64 (A, K); confidences: float (A, K); durations: int64 (A, K), or None where not learnt.
    """

    rows_A: Tensor
    parents_AK: Tensor
    tokens_AK: Tensor
    frames_AK: Tensor
    confidences_AK: Tensor
    durations_AK: Tensor | None = None


@dataclass(frozen=True)
class Piece:
    """Emissions after those of ``before``."""

    before: "Piece | None"
    emissions: list[Emission]


class History:
    """The emissions of K slots of B utterances. What no slot leads back to is forgotten."""

    def __init__(self, utterances: int, k: int) -> None:
        self.pieces: list[list[Piece | None]] = [[None] * k for _ in range(utterances)]

    def extend(self, steps: Sequence[Step], origin_B: Tensor) -> None:
        """Adds the next steps, whose frames count from ``origin_B``."""
        if not steps:
            return
        count, k = len(self.pieces), len(self.pieces[0])
        row_A = _stacked([step.rows_A for step in steps])  # A counts pairs of a step and an utterance, step by step, from here on
        parents_AK, tokens_AK, frames_AK, confidences_AK = (
            _stacked([getattr(step, name) for step in steps]) for name in ("parents_AK", "tokens_AK", "frames_AK", "confidences_AK")
        )
        durations_AK = np.zeros_like(tokens_AK)
        if steps[0].durations_AK is not None:
            durations_AK = _stacked([step.durations_AK for step in steps if step.durations_AK is not None])
        slots_BK = np.tile(np.arange(k), (count, 1))
        places_SBK = np.full((len(steps), count, k), -1)  # where in the flattened (A, K) arrays a final slot's emission is, -1 for none
        end = len(row_A)
        for s in range(len(steps) - 1, -1, -1):
            start = end - len(steps[s].rows_A)
            rows, here_A = row_A[start:end], np.arange(start, end)[:, None]
            slots = slots_BK[rows]
            places_SBK[s, rows] = np.where(tokens_AK[here_A, slots] == BLANK, -1, here_A * k + slots)
            slots_BK[rows] = parents_AK[here_A, slots]
            end = start
        row, slot, step = np.nonzero(places_SBK.transpose(1, 2, 0) >= 0)
        places = places_SBK[step, row, slot]
        columns = (tokens_AK, frames_AK, durations_AK, confidences_AK)
        token, frame, duration, confidence = (values.ravel()[places] for values in columns)
        frame = frame + origin_B.cpu().numpy()[row]
        emissions = list(map(Emission, token.tolist(), frame.tolist(), duration.tolist(), confidence.tolist()))
        borders = np.searchsorted(row * k + slot, np.arange(count * k + 1)).tolist()
        before = self.pieces
        self.pieces = [[before[b][parent] for parent in parents] for b, parents in enumerate(slots_BK.tolist())]
        for index in np.unique(row * k + slot).tolist():
            b, slot_of_b = divmod(index, k)
            new = emissions[borders[index] : borders[index + 1]]
            self.pieces[b][slot_of_b] = Piece(self.pieces[b][slot_of_b], new)

    def of(self, utterance: int, slot: int) -> list[Emission]:
        """The emissions of a slot, in order."""
        pieces = []
        piece = self.pieces[utterance][slot]
        while piece is not None:
            pieces.append(piece.emissions)
            piece = piece.before
        return [emission for emissions in reversed(pieces) for emission in emissions]


def joined(first: EncoderOut, second: EncoderOut) -> EncoderOut:
    """The frames of each utterance in ``first``, and after them those in ``second``."""
    if first.frames_BSD.shape[1] == 0:
        return second
    lens_B = first.lens_B + second.lens_B
    frames_BSD = torch.cat([first.frames_BSD, second.frames_BSD], dim=1)
    s = torch.arange(int(lens_B.max()), device=lens_B.device)
    own_BS = s + torch.where(s < first.lens_B.unsqueeze(1), 0, first.frames_BSD.shape[1] - first.lens_B.unsqueeze(1))
    own_BS = own_BS.clamp(max=frames_BSD.shape[1] - 1)
    return EncoderOut(frames_BSD.gather(1, own_BS.unsqueeze(2).expand(-1, -1, frames_BSD.shape[2])), lens_B)


def after(encoder_out: EncoderOut, used_B: Tensor) -> EncoderOut:
    """The frames of each utterance without its first ``used_B``."""
    lens_B = encoder_out.lens_B - used_B
    s = torch.arange(int(lens_B.max()) if len(lens_B) else 0, device=lens_B.device)
    own_BS = (s + used_B.unsqueeze(1)).clamp(max=max(encoder_out.frames_BSD.shape[1] - 1, 0))
    return EncoderOut(encoder_out.frames_BSD.gather(1, own_BS.unsqueeze(2).expand(-1, -1, encoder_out.frames_BSD.shape[2])), lens_B)


def no_frames(like: Tensor, streams: int, channels: int) -> EncoderOut:
    """Zero frames of so many streams, on the device of ``like`` and of its type."""
    return EncoderOut(like.new_zeros(streams, 0, channels), torch.zeros(streams, dtype=torch.int64, device=like.device))


def _stacked(tensors: Sequence[Tensor]) -> np.ndarray:
    found: np.ndarray = torch.cat(list(tensors)).cpu().numpy()
    return found
