"""Encoders and searches piece by piece, and recordings of any length. Shape legend: asr/types.py."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.decode.history import joined
from asr.decode.search import Search, StreamingSearch
from asr.decode.topology import Topology
from asr.decode.words import Part, joined_parts
from asr.types import EncoderOut, Hypothesis

WINDOW, CONTEXT = 30.0, 2.0
"""Seconds between two cuts at most, and beyond the cuts that are recognised, too, and thrown away."""
PAUSE, CHOICE = 0.3, 10.0
"""A cut is made in the middle of the quietest so many seconds, among the last so many that it may be made in."""


class FrameSearch:
    """Base of the searches of transducers, in the states of which ``pending`` are the frames that are not done with."""

    topology: Topology

    def start(self, streams: int) -> Any:
        raise NotImplementedError

    def finish(self, state: Any) -> list[list[Hypothesis]]:
        raise NotImplementedError

    def _search(self, state: Any, until_B: Tensor) -> Any:
        """The state after the first ``until_B`` of the pending frames."""
        raise NotImplementedError

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        return self.finish(replace(self.start(len(encoder_out.lens_B)), pending=encoder_out))

    @torch.no_grad()
    def advance(self, encoder_out: EncoderOut, state: Any) -> Any:
        """Frames are searched when no move from them can lead beyond those that have come: the end may yet cut it off."""
        pending = joined(state.pending, encoder_out)
        return self._search(replace(state, pending=pending), (pending.lens_B - self.topology.reach + 1).clamp(min=0))


def can_stream(model: Any) -> bool:
    """Whether a model gives encoder frames before it has seen the whole utterance."""
    try:
        _start(model, 1, "cpu")
    except ValueError:
        return False
    return True


def _start(model: Any, streams: int, device: torch.device | str) -> Any:
    if not hasattr(model.encoder, "start") or getattr(model, "frontend", None) is not None or getattr(model, "context", None) is not None:
        raise ValueError("decode.chunk: only models of plain features, whose encoder can stream and has no context, take them in chunks")
    return model.encoder.start(streams, device)


def encode(model: Any, pieces: Iterable[tuple[Tensor, Tensor]], streams: int) -> Iterator[EncoderOut]:
    """What the encoder makes of the features (B, T, F) of so many streams and their lengths (B,), piece by piece; a stream whose piece is
    shorter than others has ended. Raises ValueError where the model cannot stream."""
    state, waiting = None, None
    for piece in pieces:
        if waiting is not None:
            encoder_out, state = model.encoder.step(waiting[0], state, lens_B=waiting[1])
            yield encoder_out
        else:
            state = _start(model, streams, piece[0].device)
        waiting = piece
    if waiting is not None:
        yield model.encoder.step(waiting[0], state, final=True, lens_B=waiting[1])[0]


def split(features_BTF: Tensor, lens_B: Tensor, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Features of a batch in pieces of so many frames."""
    for first, piece_BTF in zip(range(0, features_BTF.shape[1], frames), features_BTF.split(frames, dim=1)):
        yield piece_BTF, (lens_B - first).clamp(0, piece_BTF.shape[1])


def decode(search: Search, pieces: Iterable[EncoderOut], streams: int) -> list[list[Hypothesis]]:
    """What ``search`` finds in the encoder output of so many streams; one that cannot stream gets the pieces all at once."""
    if isinstance(search, StreamingSearch) and not (isinstance(pieces, list) and len(pieces) == 1):
        state = search.start(streams)
        for piece in pieces:
            state = search.advance(piece, state)
        return search.finish(state)
    return search.decode(whole(pieces))


def whole(pieces: Iterable[EncoderOut]) -> EncoderOut:
    """All pieces of some streams as one."""
    return reduce(joined, pieces)


def recognise(recogniser: Any, search: Search, pieces: Iterable[Tensor], padding_value: float, batch: float) -> Hypothesis:
    """The best hypothesis of a recording of any length in bounded memory.

    pieces: its features (T, F), one after the other. An encoder that can stream takes them as they come. Otherwise the recording is
    cut at pauses, and each part recognised with ``CONTEXT`` around it; the score is then the sum of the parts'.
    recogniser: an ``asr.decode.driver.Recogniser``. batch: seconds of audio recognised together.
    """
    model = recogniser.model
    device = next(model.parameters()).device
    if can_stream(model) and isinstance(search, StreamingSearch):
        streamed = ((piece[None].to(device), torch.tensor([len(piece)], device=device)) for piece in pieces)
        return decode(search, encode(model, streamed, 1), 1)[0][0]
    parts: list[Part] = []
    for group in _grouped(windows(pieces, recogniser.frame_shift, model.encoder.subsampling), batch / recogniser.frame_shift):
        features_BTF = pad_sequence([window.features_TF for window in group], batch_first=True, padding_value=padding_value)
        lens_B = torch.tensor([len(window.features_TF) for window in group])
        found = search.decode(model.encode(features_BTF.to(device), lens_B.to(device)))
        parts += [
            Part(hypotheses[0], *(frame // model.encoder.subsampling for frame in (window.first, window.begin, window.end)))
            for hypotheses, window in zip(found, group)
        ]
    return joined_parts(parts, recogniser.tokenizer)


@dataclass(frozen=True)
class Window:
    """Features (T, F) from the frame ``first`` on, of which those from ``begin`` up to but without ``end`` count."""

    features_TF: Tensor
    first: int
    begin: int
    end: int


def windows(pieces: Iterable[Tensor], frame_shift: float, multiple: int) -> Iterator[Window]:
    """A recording cut at pauses. All places but the last are multiples of ``multiple`` feature frames."""
    length, context, choice, pause = (int(s / frame_shift) // multiple * multiple for s in (WINDOW, CONTEXT, CHOICE, PAUSE))
    features_TF, first, begin = torch.zeros(0), 0, 0
    for piece_TF in pieces:
        features_TF = torch.cat([features_TF, piece_TF]) if len(features_TF) else piece_TF
        while first + len(features_TF) >= begin + length + context:
            from_TF = features_TF[begin + length - choice - first : begin + length - first]
            loudness = from_TF.mean(1).unfold(0, pause, 1).mean(1)
            end = (begin + length - choice + int(loudness.argmin()) + pause // 2) // multiple * multiple
            yield Window(features_TF[: end + context - first], first, begin, end)
            begin, following = end, max(end - context, 0)
            features_TF, first = features_TF[following - first :], following
    if len(features_TF):
        yield Window(features_TF, first, begin, first + len(features_TF) + multiple)


def _grouped(found: Iterable[Window], frames: float) -> Iterator[list[Window]]:
    """In order; a group padded to its longest has at most so many frames, or one window."""
    group: list[Window] = []
    for window in found:
        longest = max(len(other.features_TF) for other in [*group, window])
        if group and longest * (len(group) + 1) > frames:
            yield group
            group = []
        group.append(window)
    if group:
        yield group
