"""Conformer encoder: Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020.

Without convolutions and with one feed-forward module per layer, it is the encoder of the Transformer-Transducer: Zhang et al.,
"Transformer Transducer: A Streamable Speech Recognition Model with Transformer Encoders and RNN-T Loss", ICASSP 2020.

Padding never reaches a valid frame: attention masks it, the convolution sees zeros in its place as it does beyond the
ends of an utterance, and the norms are per frame (batch norm, an option, counts valid frames only in training).

Shape legend: asr/types.py; K keys of the attention (the P frames remembered of a stream, then the frames themselves).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from asr.models.chunks import ChunkConfig, ChunkedEncoder, StreamState, visible, whole_chunks
from asr.models.layers import Dropout, Linear
from asr.models.memory import Memory
from asr.models.subsampling import SUBSAMPLINGS, ConvSubsampling, SubsamplingConfig
from asr.models.transformer import ATTENTIONS, POSITIONS, FeedForward, Positions
from asr.types import EncoderOut

_PUBLISHED: dict[str, Any] = {"kernel": 31, "positions": "relative", "norm": "batch"}
SIZES: dict[str, dict[str, Any]] = {
    "small": {**_PUBLISHED, "dim": 144, "layers": 16, "heads": 4, "feedforward": 576, "subsampling": {"channels": 144}},
    "medium": {**_PUBLISHED, "dim": 256, "layers": 16, "heads": 4, "feedforward": 1024, "subsampling": {"channels": 256}},
    "large": {**_PUBLISHED, "dim": 512, "layers": 17, "heads": 8, "feedforward": 2048, "subsampling": {"channels": 512}},
}
"""As published (Gulati et al. 2020, table 1), but for the kernel, which is 32 frames wide there and must be odd here."""


class Conformer(ChunkedEncoder):
    """See :class:`ChunkedEncoder` for what a causal one sees, and how it streams."""

    class Config(ChunkConfig):
        """size: what is not given comes from the named size, where there is one.
        kernel: frames of the depthwise convolution; 0 for no convolution.
        macaron: half a feed-forward module before the attention and half of one at the end of a layer; else a whole one at the end.
        context: how many encoder frames to the left and right of itself a frame attends to in each layer; null for all.
        subsampling: ``conv2d`` for Mel bins every 10 ms, ``frames`` for what a frontend gives, at its rate.
        causal, chunk_sizes, left_frames ...: streaming, see :class:`ChunkConfig`; in encoder frames, 40 ms with ``conv2d``.
            A convolution sees its frame's chunk and, of what lies before it, half a kernel.
        """

        type: Literal["conformer"] = "conformer"
        size: Literal["small", "medium", "large"] | None = None
        dim: int = Field(default=256, ge=4)
        layers: int = Field(default=12, ge=1)
        heads: int = Field(default=4, ge=1)
        feedforward: int = Field(default=1024, ge=1)
        macaron: bool = True
        kernel: int = Field(default=31, ge=0)
        positions: Positions = "rotary"
        context: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
        norm: Literal["layer", "batch"] = "layer"
        dropout: float = Field(default=0.1, ge=0, lt=1)
        subsampling: SubsamplingConfig = ConvSubsampling.Config()  # type: ignore[valid-type]
        chunk_sizes: tuple[int, ...] = (8, 16, 32, -1)
        left_frames: tuple[int, ...] = (32, 64, 128, -1)

        @model_validator(mode="before")
        @classmethod
        def _complete(cls, values: Any) -> Any:
            """Fills in what the size says, so that a dumped config holds every value."""
            return {**SIZES.get(str(values.get("size")), {}), **values} if isinstance(values, dict) else values

        @model_validator(mode="after")
        def _check(self) -> "Conformer.Config":
            if self.causal:
                self.check_chunks(period=1)
            return self

    def __init__(self, config: "Conformer.Config", feature_dim: int) -> None:
        super().__init__()
        if config.dim % (2 * config.heads):
            raise ValueError(f"conformer: dim {config.dim} must be a multiple of twice the {config.heads} heads")
        if config.kernel > 0 and config.kernel % 2 == 0:
            raise ValueError(f"conformer: kernel {config.kernel} must be odd, or 0 for no convolution")
        self.config = config
        self.feature_dim = feature_dim
        self.output_dim = config.dim
        self.chunk_size, self.left_frames = config.decode_chunk_size, config.decode_left_frames
        self.frontend: Any = SUBSAMPLINGS[config.subsampling.type](config.subsampling, feature_dim, config.dim)
        self.subsampling, self.min_frames, self.reads_mel = self.frontend.factor, self.frontend.min_frames, self.frontend.reads_mel
        self.dropout = Dropout(config.dropout)
        self.positions = POSITIONS[config.positions](config.dim, config.dim // config.heads)
        self.layers = nn.ModuleList([ConformerLayer(config) for _ in range(config.layers)])

    def frames_out(self, lens_B: Tensor) -> Tensor:
        """Encoder frames of utterances of ``lens_B`` feature frames."""
        return self.frontend.frames_out(lens_B)

    def forward(self, features_BTF: Tensor, lens_B: Tensor) -> EncoderOut:
        x_BSD, lens_B = self.run(self.frontend, features_BTF, lens_B)
        x_BSD = self.dropout(x_BSD)
        frames = x_BSD.shape[1]
        chunk, left = self.limits()
        valid_BS = torch.arange(frames, device=x_BSD.device) < lens_B.unsqueeze(1)
        positions = self.positions(frames, frames, x_BSD.dtype)
        attended_BSK = self._within_context(valid_BS, frames)
        if chunk != -1:
            attended_BSK = attended_BSK & visible(frames, chunk, left, x_BSD.device)
        for layer in self.layers:
            x_BSD = self.run(layer, x_BSD, positions, attended_BSK, valid_BS, chunk, None)
        return EncoderOut(x_BSD, lens_B)

    def _within_context(self, valid_BK: Tensor, queries: int) -> Tensor:
        """bool (B, Q or 1, K): which keys the last ``queries`` of them may attend to. valid_BK: which are frames of the utterance."""
        if self.config.context is None:
            return valid_BK.unsqueeze(1)
        left, right = self.config.context
        frame_K = torch.arange(valid_BK.shape[1], device=valid_BK.device)
        ahead_QK = frame_K - frame_K[len(frame_K) - queries :].unsqueeze(1)
        return valid_BK.unsqueeze(1) & (-left <= ahead_QK) & (ahead_QK <= right)

    def start(self, streams: int, device: torch.device | str = "cpu") -> StreamState:
        """The state before the first frame of so many streams."""
        left = whole_chunks(self.left_frames, self.chunk_size)
        if self.config.context is not None:
            left = self.config.context[0] if left == -1 else min(left, self.config.context[0])
        if not self.config.causal or self.chunk_size == -1 or left == -1:
            raise ValueError("streaming needs 'causal: true', a decode_chunk_size other than -1, and decode_left_frames or a context")
        widths = {"keys_values": (left, 2 * self.output_dim)}
        if self.config.kernel:
            widths["convolution"] = (self.config.kernel // 2, self.output_dim)
        return StreamState.start(streams, self.feature_dim, None, [widths] * len(self.layers), device)

    def embed_chunk(self, features_BTF: Tensor, state: StreamState, future: bool) -> tuple[Tensor, Tensor, StreamState]:
        x_BQD, lens_B = self.frontend(features_BTF, state.feature_lens_B.clamp(max=features_BTF.shape[1]))
        return x_BQD, lens_B, state

    def step_chunk(self, x_BSD: Tensor, lens_B: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        chunk, past = x_BSD.shape[1], state.layers[0]["keys_values"].shape[1]
        frame_K = torch.arange(-past, chunk, device=x_BSD.device)
        valid_BK = (frame_K >= -state.frames_B.unsqueeze(1)) & (frame_K < lens_B.unsqueeze(1))
        attended_BSK = self._within_context(valid_BK, chunk)
        positions = self.positions(chunk, past + chunk, x_BSD.dtype)
        memories = [Memory(remembered) for remembered in state.layers]
        for layer, memory in zip(self.layers, memories):
            x_BSD = layer(x_BSD, positions, attended_BSK, valid_BK[:, past:], chunk, memory)
        return x_BSD, replace(state, layers=tuple(memory.following for memory in memories), frames_B=state.frames_B + lens_B)


class ConformerLayer(nn.Module):
    """Half a feed-forward, self-attention, convolution, half a feed-forward, each residual, and a norm (eq. 1)."""

    def __init__(self, config: Conformer.Config) -> None:
        super().__init__()
        self.feedforward1 = FeedForward(config.dim, config.feedforward, config.dropout) if config.macaron else None
        self.attention = ATTENTIONS[config.positions](config.dim, config.heads, config.dropout)
        self.convolution = Convolution(config) if config.kernel else None
        self.feedforward2 = FeedForward(config.dim, config.feedforward, config.dropout)
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self, x_BSD: Tensor, positions: Tensor, attended_BSK: Tensor, valid_BS: Tensor, chunk: int, memory: Memory | None
    ) -> Tensor:
        """chunk: frames that a convolution may look at together; -1 for the whole utterance. memory: of a stream."""
        if self.feedforward1 is not None:
            x_BSD = x_BSD.add(self.feedforward1(x_BSD), alpha=0.5)
        x_BSD = x_BSD + self.attention(x_BSD, positions, attended_BSK, memory)
        if self.convolution is not None:
            x_BSD = x_BSD + self.convolution(x_BSD, valid_BS, chunk, memory)
        x_BSD = x_BSD.add(self.feedforward2(x_BSD), alpha=1.0 if self.feedforward1 is None else 0.5)
        return self.norm(x_BSD)


class Convolution(nn.Module):
    """Pointwise convolution with GLU, depthwise convolution, norm, swish, pointwise convolution (figure 2).

    In chunks, the depthwise convolution sees zeros beyond the end of its chunk: Li et al., "Dynamic chunk convolution for unified
    streaming and non-streaming Conformer ASR", ICASSP 2023. So its weights are those of the convolution over whole utterances.
    """

    def __init__(self, config: Conformer.Config) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.dim)
        self.expand = Linear(config.dim, 2 * config.dim)
        self.depthwise = nn.Conv1d(config.dim, config.dim, config.kernel, padding=config.kernel // 2, groups=config.dim)
        self.norm: Any = nn.LayerNorm(config.dim) if config.norm == "layer" else MaskedBatchNorm(config.dim)
        self.contract = Linear(config.dim, config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BSD: Tensor, valid_BS: Tensor, chunk: int, memory: Memory | None) -> Tensor:
        x_BSD = F.glu(self.expand(self.norm_in(x_BSD)), dim=-1).masked_fill(~valid_BS.unsqueeze(-1), 0.0)
        x_BSD = self.depthwise(x_BSD.transpose(1, 2)).transpose(1, 2) if chunk == -1 else self._in_chunks(x_BSD, chunk, memory)
        x_BSD = self.norm(x_BSD, valid_BS) if isinstance(self.norm, MaskedBatchNorm) else self.norm(x_BSD)
        return self.dropout(self.contract(F.silu(x_BSD)))

    def _in_chunks(self, x_BSD: Tensor, chunk: int, memory: Memory | None) -> Tensor:
        batch, frames, dim = x_BSD.shape
        half = self.depthwise.kernel_size[0] // 2
        after_past_BSD = F.pad(x_BSD, (0, 0, half, 0)) if memory is None else memory.join("convolution", x_BSD)
        windows_BCDS = F.pad(after_past_BSD, (0, 0, 0, -frames % chunk)).unfold(1, half + chunk, chunk)
        windows_NDS = F.pad(windows_BCDS.flatten(0, 1), (0, half))
        out_NDS = F.conv1d(windows_NDS, self.depthwise.weight, self.depthwise.bias, groups=dim)
        return out_NDS.transpose(1, 2).reshape(batch, -1, dim)[:, :frames]


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics count valid frames only; frames of padding come out as zero."""

    def forward(self, x_BSD: Tensor, valid_BS: Tensor) -> Tensor:  # type: ignore[override]
        out_BSD = torch.zeros_like(x_BSD)
        frames_ND = x_BSD[valid_BS]
        out_BSD[valid_BS] = super().forward(frames_ND) if len(frames_ND) else frames_ND
        return out_BSD
