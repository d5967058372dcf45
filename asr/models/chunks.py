"""Chunks: how an encoder that can stream is kept from seeing the future, and how it goes through a stream.

A frame sees the whole of its chunk and a limited number of frames before the chunk. Both limits are drawn anew at each training
step, so that one model serves every latency: Yao et al., "WeNet", Interspeech 2021, section 2.2 ("dynamic chunk training").
Shape legend: asr/types.py; P frames remembered of a stream.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

import torch
from pydantic import model_validator
from torch import Tensor

from asr.config import Config
from asr.models.checkpointing import Checkpointing
from asr.types import EncoderOut


class ChunkConfig(Config):
    """causal: whether the model can stream. chunk_sizes, left_frames: training draws one of each anew at each step; -1 stands for
        the whole utterance, and for unlimited left context.
    decode_chunk_size, decode_left_frames: what evaluation and streaming use; by default the first of each.
    """

    causal: bool = False
    chunk_sizes: tuple[int, ...] = ()
    left_frames: tuple[int, ...] = ()
    decode_chunk_size: int = -1
    decode_left_frames: int = -1

    @model_validator(mode="before")
    @classmethod
    def _decode_as_first_trained(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for name, choices in (("decode_chunk_size", "chunk_sizes"), ("decode_left_frames", "left_frames")):
            given = values.get(choices, cls.model_fields[choices].default)
            if name not in values and given and isinstance(given, (list, tuple)):
                values[name] = given[0]
        return values

    def check_chunks(self, period: int) -> None:
        """Raises ValueError where a limit is impossible; chunks are whole multiples of ``period`` frames."""
        if not self.chunk_sizes or not self.left_frames:
            raise ValueError("a causal encoder needs chunk_sizes and left_frames")
        for size in {*self.chunk_sizes, self.decode_chunk_size}:
            if size != -1 and (size <= 0 or size % period):
                raise ValueError(f"chunk size {size} must be -1 or a positive multiple of {period}")
        for left in {*self.left_frames, self.decode_left_frames}:
            if left != -1 and left < 0:
                raise ValueError(f"left frames {left} must be -1 or at least 0")

    def draw(self) -> tuple[int, int]:
        """Chunk size and left context of a training step, from torch's generator."""
        chunk = self.chunk_sizes[int(torch.randint(len(self.chunk_sizes), ()))]
        return chunk, self.left_frames[int(torch.randint(len(self.left_frames), ()))]


def whole_chunks(left: int, chunk: int) -> int:
    """The left context in frames, -1 for no limit: a whole number of chunks, at least one."""
    return -1 if -1 in (left, chunk) else max(1, left // chunk) * chunk


def visible(frames: int, chunk: int, left: int, device: torch.device) -> Tensor:
    """bool (frames, frames), True where the frame of the row sees that of the column. left: of whole chunks, or -1."""
    chunk_S = torch.arange(frames, device=device) // chunk
    chunks_back_SS = chunk_S.unsqueeze(1) - chunk_S
    return chunks_back_SS >= 0 if left == -1 else (chunks_back_SS >= 0) & (chunks_back_SS <= left // chunk)


@dataclass(frozen=True)
class StreamState:
    """All that a batch of streams remembers between two calls of :meth:`ChunkedEncoder.step`; one row per stream everywhere.

    features_BTF: features not used up yet, feature_lens_B: int64 (B,), how many of them are the stream's own.
    frontend: left context of the frontend, where it has some.
    layers: for each layer, its left context by name, (B, P, D) each.
    frames_B: int64 (B,), frames that have been through the layers, at their rate.
    """

    features_BTF: Tensor
    feature_lens_B: Tensor
    frontend: Tensor | None
    layers: tuple[dict[str, Tensor], ...]
    frames_B: Tensor

    @classmethod
    def start(
        cls, streams: int, feature_dim: int, frontend: Tensor | None, widths: Sequence[Mapping[str, tuple[int, int]]],
        device: torch.device | str,
    ) -> "StreamState":
        """Before the first frame. widths: for each layer, by name, P and the channels of what it remembers."""
        nothing_B = torch.zeros(streams, dtype=torch.int64, device=device)
        layers = tuple({name: torch.zeros(streams, *shape, device=device) for name, shape in layer.items()} for layer in widths)
        return cls(torch.zeros(streams, 0, feature_dim, device=device), nothing_B, frontend, layers, nothing_B)


class ChunkedEncoder(Checkpointing):
    """Base of encoders that see ``chunk_size`` frames at a time and ``left_frames`` before them where ``config.causal`` says so:
    outside training as these attributes say (initially the config's), in training as drawn anew for each batch."""

    config: Any
    frontend: Any
    chunk_size: int
    left_frames: int
    min_frames: int
    output_dim: int

    def limits(self) -> tuple[int, int]:
        """Chunk size and left context in frames; -1 for no limit."""
        if not self.config.causal:
            return -1, -1
        chunk, left = self.config.draw() if self.training else (self.chunk_size, self.left_frames)
        return chunk, whole_chunks(left, chunk)

    def embed_chunk(self, features_BTF: Tensor, state: StreamState, future: bool) -> tuple[Tensor, Tensor, StreamState]:
        """Embeddings, how many of them are each stream's own (B,), and the state after them. future: the features end with those of a
        later chunk that this one looks at."""
        raise NotImplementedError

    def step_chunk(self, x_BSD: Tensor, lens_B: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Takes embeddings, a chunk at most, through the layers. lens_B: how many of them are each stream's own."""
        raise NotImplementedError

    def final_rate(self, frames_B: Tensor) -> Tensor:
        """How many encoder frames become of so many frames of the layers."""
        return frames_B

    def step(
        self, features_BTF: Tensor, state: StreamState, final: bool = False, lens_B: Tensor | None = None
    ) -> tuple[EncoderOut, StreamState]:
        """Takes the next features of every stream, any number of them, and gives the encoder frames they complete.

        final: these are the last ones, so that what waits for more is computed now. lens_B: int64 (B,), how many of the features are
        a stream's own, by default all; a stream that has fewer than the batch holds has ended, and gets none from then on.
        The frames of all calls together are those of ``forward`` on the whole utterance (evaluation, same chunk size).
        """
        given_B = torch.full_like(state.feature_lens_B, features_BTF.shape[1]) if lens_B is None else lens_B
        features_BTF = torch.cat((state.features_BTF, features_BTF), dim=1)
        state = replace(state, features_BTF=features_BTF, feature_lens_B=state.feature_lens_B + given_B)
        chunk, before_B, outputs = self.chunk_size, state.frames_B, []
        needed, used = self.frontend.features_needed(chunk), chunk * self.frontend.factor
        while (whole := state.features_BTF.shape[1] >= needed) or (final and state.features_BTF.shape[1] >= self.min_frames):
            x_BSD, own_B, state = self.embed_chunk(state.features_BTF[:, :needed], state, future=whole)
            for piece_BSD in x_BSD.split(chunk, dim=1):
                out_BSD, state = self.step_chunk(piece_BSD, own_B.clamp(max=chunk), state)
                outputs.append(out_BSD)
                own_B = (own_B - chunk).clamp(min=0)
            taken = used if whole else state.features_BTF.shape[1]
            state = replace(
                state, features_BTF=state.features_BTF[:, taken:], feature_lens_B=(state.feature_lens_B - taken).clamp(min=0)
            )
        frames_BSD = torch.cat(outputs, dim=1) if outputs else features_BTF.new_zeros(len(features_BTF), 0, self.output_dim)
        return EncoderOut(frames_BSD, self.final_rate(state.frames_B) - self.final_rate(before_B)), state
