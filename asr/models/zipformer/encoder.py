"""The Zipformer encoder (Yao et al. 2023, arXiv 2310.11230): stacks of layers at different frame rates around one stream.

Letters beyond asr/types.py: C frames of a chunk, L frames of left context.
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.models.checkpointing import Checkpointing
from asr.models.chunks import ChunkedEncoder, StreamState, visible, whole_chunks
from asr.models.memory import Memory
from asr.models.zipformer.attention import relative_positions
from asr.models.zipformer.config import ZipformerConfig
from asr.models.zipformer.frontend import Count, FrameFrontend, Frontend
from asr.models.zipformer.layer import Bypass, Frames, Layer
from asr.models.zipformer.schedule import Schedule
from asr.types import EncoderOut

FEATURE_DROPOUT = 0.125
POSITION_DROPOUT = 0.15


class Downsample(nn.Module):
    """The weighted average of each ``factor`` frames, the weights being learned; the last frame is repeated where some lack."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x_BTD: Tensor, lens_B: Tensor | None) -> Tensor:
        """(B, T / factor, D); T is a multiple of factor. lens_B: real frames, >= 1; None: all of them."""
        batch, _, dim = x_BTD.shape
        weights = self.bias.softmax(0)
        groups = x_BTD.view(batch, -1, self.factor, dim)
        out = groups[:, :, 0] * weights[0]
        for k in range(1, self.factor):
            out = torch.addcmul(out, groups[:, :, k], weights[k])
        if lens_B is None:
            return out
        last_B1 = lens_B.unsqueeze(1) - 1
        group_B1 = last_B1 // self.factor
        frames_BK = torch.minimum(group_B1 * self.factor + torch.arange(self.factor, device=x_BTD.device), last_B1)
        tail = x_BTD.gather(1, frames_BK.unsqueeze(-1).expand(-1, -1, dim))
        tail = (tail * weights.unsqueeze(-1)).sum(1, keepdim=True).to(out.dtype)
        return out.scatter(1, group_B1.unsqueeze(-1).expand(-1, -1, dim), tail)


class Stack(Checkpointing):
    """Layers at one frame rate, with down- and upsampling and a bypass around them where the rate is lower."""

    def __init__(self, config: ZipformerConfig, index: int) -> None:
        super().__init__()
        stacks, dim = len(config.downsampling), config.dims[index]
        self.factor, self.dim, self.pos_dim = config.downsampling[index], dim, config.pos_dim
        layers = config.layers[index]
        begin, length = config.warmup_steps * (index + 1) / (stacks + 1), config.warmup_steps / (stacks + 1)
        self.layers = nn.ModuleList(
            Layer(
                dim, heads=config.heads[index], feed_forward=config.feed_forward[index], kernel=config.kernels[index],
                query_head_dim=config.query_head_dim, value_head_dim=config.value_head_dim, pos_head_dim=config.pos_head_dim,
                pos_dim=config.pos_dim, causal=config.causal,
                skip=Schedule((begin + length * i / layers, 0.5), (begin + length * (i + 1) / layers, 0.035 * self.factor**0.5)),
            )
            for i in range(layers)
        )
        self.downsample = Downsample(self.factor) if self.factor > 1 else None
        self.bypass = Bypass(dim) if self.factor > 1 else None

    def forward(
        self, x_BTD: Tensor, frames: Frames, lens_B: Tensor | None, features_B1D: Tensor | None,
        memories: list[Memory] | None, step: int | None,
    ) -> Tensor:
        """(B, T, D), T a multiple of the stack's factor. lens_B: real frames of x; features_B1D: mask of feature dropout."""
        x = x_BTD if self.downsample is None else self.downsample(x_BTD, lens_B)
        x = x if features_B1D is None else x * features_B1D
        for index, layer in enumerate(self.layers):
            x = self.run(layer, x, frames, None if memories is None else memories[index], step)
            x = x if features_B1D is None else x * features_B1D
        if self.bypass is None:
            return x
        upsampled = x.unsqueeze(2).expand(-1, -1, self.factor, -1).reshape(x_BTD.shape)
        return self.bypass(x_BTD, upsampled, step)


class Zipformer(ChunkedEncoder):
    """Features at 100 Hz to frames at 25 Hz, or others at the rate that the config says; the width is that of the widest stack.

    Training needs to know the step (:meth:`set_step`), on which dropout, layer skipping and limits of activations depend.
    Chunks and left context count frames at the stacks' rate.
    """

    Config = ZipformerConfig

    def __init__(self, config: ZipformerConfig, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.feature_dim = feature_dim
        self.output_dim = max(config.dims)
        self.chunk_size, self.left_frames = config.decode_chunk_size, config.decode_left_frames
        self.subsampling = config.subsampling
        self.halving = 1 if config.subsampling == 1 else 2  # of the stacks' rate, at the end
        self.period = math.lcm(self.halving, *config.downsampling)
        self.training_step = 0
        self.frontend: Any = Frontend(feature_dim, config.dims[0], config.frontend_channels) if config.frontend == "conv" else (
            FrameFrontend(feature_dim, config.dims[0], config.subsampling // self.halving)
        )
        self.min_frames, self.reads_mel = self.frontend.min_frames, self.frontend.reads_mel
        self.stacks = nn.ModuleList(Stack(config, index) for index in range(len(config.dims)))
        self.downsample = Downsample(2) if self.halving == 2 else None

    def set_step(self, step: int) -> None:
        """Says which training step follows."""
        self.training_step = step

    def frames_out(self, lens_B: Tensor) -> Tensor:
        """Encoder frames of utterances of so many feature frames."""
        return self._halved(self.frontend.frames_out(lens_B))

    def _halved(self, frames: Count) -> Count:
        return (frames + self.halving - 1) // self.halving

    def forward(self, features_BTF: Tensor, lens_B: Tensor) -> EncoderOut:
        """features_BTF: (B, T, feature_dim), T >= min_frames. lens_B: int64 (B,), frames of each, >= min_frames."""
        shortest, longest = int(lens_B.min()), int(lens_B.max())
        if shortest < self.min_frames:
            raise ValueError(f"an utterance of {shortest} feature frames is too short: the encoder needs {self.min_frames}")
        step = self.training_step if self.training else None
        lens_B = lens_B.to(features_BTF.device)
        embedded_B = self.frontend.frames_out(lens_B)
        ragged = shortest != longest
        x = self.run(self.frontend, features_BTF[:, :longest], embedded_B if ragged else None, step)
        time = x.shape[1]
        x = F.pad(x, (0, 0, 0, -time % self.period))
        chunk, left = self.limits()
        frames = self._frames(x.shape[1], embedded_B, ragged or x.shape[1] != time, chunk, left, step)
        out = self._through_stacks(x, frames, embedded_B, None, step)
        return EncoderOut(out[:, : self._halved(time)], self._halved(embedded_B))

    def _frames(
        self, time: int, lens_B: Tensor, padded: bool, chunk: int, left: int, step: int | None
    ) -> dict[int, Frames]:
        """What each rate's layers must know of the ``time`` frames at 50 Hz, by downsampling factor."""
        frames = {}
        for factor in set(self.config.downsampling):
            count = time // factor
            rate_lens_B = (lens_B + factor - 1) // factor
            t = torch.arange(count, device=lens_B.device)
            pad_BT = t >= rate_lens_B.unsqueeze(1) if padded else None
            mask = None if pad_BT is None else pad_BT.unsqueeze(1)
            if chunk != -1:
                hidden = ~visible(count, chunk // factor, left if left == -1 else left // factor, lens_B.device)
                mask = hidden if mask is None else mask | hidden
            positions = self._positions(count, count, step, lens_B.device)
            frames[factor] = Frames(rate_lens_B, pad_BT, mask, None if chunk == -1 else chunk // factor, positions)
        return frames

    def _positions(self, queries: int, keys: int, step: int | None, device: torch.device) -> Tensor:
        positions = relative_positions(queries, keys, self.config.pos_dim, device)
        return positions if step is None else F.dropout(positions, POSITION_DROPOUT)

    def _through_stacks(
        self, x: Tensor, frames: dict[int, Frames], lens_B: Tensor, memories: list[Memory] | None, step: int | None
    ) -> Tensor:
        lens = None if frames[min(frames)].pad_BT is None else lens_B
        feature_masks = self._feature_masks(x, step)
        outputs, first = [], 0
        for stack, mask in zip(self.stacks, feature_masks):
            x = _with_channels(x, stack.dim)
            past = None if memories is None else memories[first : first + len(stack.layers)]
            x = stack(x, frames[stack.factor], lens, mask, past, step)
            first += len(stack.layers)
            outputs.append(x)
        widest = _widest(outputs)
        return widest if self.downsample is None else self.downsample(widest, lens)

    def _feature_masks(self, x: Tensor, step: int | None) -> list[Tensor | None]:
        """Per stack (B, 1, D): some utterances do without the upper half of the channels above unmasked_dims, some without all."""
        dims = self.config.dims
        if step is None:
            return [None] * len(dims)
        kept_B2 = torch.rand(x.shape[0], 2, device=x.device) > FEATURE_DROPOUT
        kept_B2[:, 1] &= kept_B2[:, 0]
        masks: list[Tensor | None] = []
        for dim, first in zip(dims, self.config.unmasked_dims):
            second = first + (dim - first) // 2
            mask = x.new_ones(x.shape[0], 1, dim)
            mask[:, 0, first:second] = kept_B2[:, :1].to(x.dtype)
            mask[:, 0, second:] = kept_B2[:, 1:].to(x.dtype)
            masks.append(mask if first < dim else None)
        return masks

    def start(self, streams: int, device: torch.device | str = "cpu") -> StreamState:
        """The state before the first frame of so many streams."""
        config = self.config
        chunk, left = self.chunk_size, self.left_frames
        if not config.causal or chunk == -1 or left == -1:
            raise ValueError("streaming needs 'causal: true' and a decode_chunk_size and decode_left_frames other than -1")
        left = whole_chunks(left, chunk)
        widths: list[dict[str, tuple[int, int]]] = []
        for stack, dim, heads, kernel in zip(self.stacks, config.dims, config.heads, config.kernels):
            past = left // stack.factor
            widths += len(stack.layers) * [{
                "keys": (past, heads * config.query_head_dim), "nonlinear": (past, 3 * dim // 4),
                "values1": (past, heads * config.value_head_dim), "values2": (past, heads * config.value_head_dim),
                "conv1": (kernel // 2, dim), "conv2": (kernel // 2, dim),
            }]
        return StreamState.start(streams, self.feature_dim, self.frontend.start(streams, device), widths, device)

    def final_rate(self, frames_B: Tensor) -> Tensor:
        return self._halved(frames_B)

    def embed_chunk(self, features_BTF: Tensor, state: StreamState, future: bool) -> tuple[Tensor, Tensor, StreamState]:
        lens_B = self.frontend.frames_out(state.feature_lens_B).clamp(min=0)
        x, past = self.frontend.step(features_BTF, lens_B, state.frontend, future)
        return x, lens_B, replace(state, frontend=past)

    def step_chunk(self, x_BSD: Tensor, lens_B: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        time, chunk = x_BSD.shape[1], self.chunk_size
        x = F.pad(x_BSD, (0, 0, 0, chunk - time))
        padded = bool((lens_B < chunk).any())
        left = whole_chunks(self.left_frames, chunk)
        frames = {}
        for factor in set(self.config.downsampling):
            past, count = left // factor, chunk // factor
            rate_lens_B = (lens_B + factor - 1) // factor
            t = torch.arange(-past, count, device=x.device)
            known_B1 = (state.frames_B // factor).unsqueeze(1)
            mask = ((t < -known_B1) | (t >= rate_lens_B.unsqueeze(1))).unsqueeze(1)
            pad_BT = t[past:] >= rate_lens_B.unsqueeze(1) if padded else None
            frames[factor] = Frames(rate_lens_B, pad_BT, mask, count, self._positions(count, past + count, None, x.device))
        memories = [Memory(past) for past in state.layers]
        out = self._through_stacks(x, frames, lens_B.clamp(min=1), memories, None)[:, : self._halved(time)]
        return out, replace(state, layers=tuple(memory.following for memory in memories), frames_B=state.frames_B + lens_B)


def _with_channels(x_BTD: Tensor, dim: int) -> Tensor:
    """The first ``dim`` channels, zeros where x has fewer."""
    return x_BTD if dim == x_BTD.shape[-1] else F.pad(x_BTD, (0, dim - x_BTD.shape[-1]))


def _widest(outputs: list[Tensor]) -> Tensor:
    """Each channel from the last stack that has it."""
    pieces, dim = [], 0
    for x in reversed(outputs):
        if x.shape[-1] > dim:
            pieces.append(x[..., dim:])
            dim = x.shape[-1]
    return torch.cat(pieces, dim=-1)
