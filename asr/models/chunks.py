"""Chunks: how an encoder that can stream is kept from seeing the future.

A frame sees the whole of its chunk and a limited number of frames before the chunk. Both limits are drawn anew at each training
step, so that one model serves every latency: Yao et al., "WeNet", Interspeech 2021, section 2.2 ("dynamic chunk training").
"""
from __future__ import annotations

from typing import Any

import torch
from pydantic import model_validator
from torch import Tensor

from asr.config import Config


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
