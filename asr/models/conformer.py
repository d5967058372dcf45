"""Conformer encoder: Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020.

Padding never reaches a valid frame: attention masks it, the convolution sees zeros in its place as it does beyond the
ends of an utterance, and the norms are per frame (batch norm, an option, counts valid frames only in training).

Shape legend: asr/types.py; H attention heads, E channels of one head, R relative positions (2S - 1), K keys (= S).
"""
from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.models.layers import Dropout, Linear
from asr.models.subsampling import ConvSubsampling
from asr.types import EncoderOut


class Conformer(nn.Module):
    class Config(BaseConfig):
        """context: how many encoder frames to the left and right of itself a frame attends to in each layer; null for all."""

        type: Literal["conformer"] = "conformer"
        dim: int = Field(default=256, ge=4)
        layers: int = Field(default=12, ge=1)
        heads: int = Field(default=4, ge=1)
        feedforward: int = Field(default=1024, ge=1)
        kernel: int = Field(default=31, ge=1)
        positions: Literal["rotary", "relative"] = "rotary"
        context: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
        norm: Literal["layer", "batch"] = "layer"
        dropout: float = Field(default=0.1, ge=0, lt=1)
        subsampling: ConvSubsampling.Config = ConvSubsampling.Config()

    subsampling = ConvSubsampling.factor
    min_frames = ConvSubsampling.min_frames

    def __init__(self, config: "Conformer.Config", feature_dim: int) -> None:
        super().__init__()
        if config.dim % (2 * config.heads):
            raise ValueError(f"conformer: dim {config.dim} must be a multiple of twice the {config.heads} heads")
        if config.kernel % 2 == 0:
            raise ValueError(f"conformer: kernel {config.kernel} must be odd")
        self.output_dim = config.dim
        self.context = config.context
        self.frontend = ConvSubsampling(config.subsampling, feature_dim, config.dim)
        self.dropout = Dropout(config.dropout)
        self.positions = POSITIONS[config.positions](config.dim, config.dim // config.heads)
        self.layers = nn.ModuleList([ConformerLayer(config) for _ in range(config.layers)])

    def frames_out(self, lens_B: Tensor) -> Tensor:
        """Encoder frames of utterances of ``lens_B`` feature frames."""
        return self.frontend.frames_out(lens_B)

    def forward(self, features_BTF: Tensor, lens_B: Tensor) -> EncoderOut:
        x_BSD, lens_B = self.frontend(features_BTF, lens_B)
        x_BSD = self.dropout(x_BSD)
        frames = x_BSD.shape[1]
        valid_BS = torch.arange(frames, device=x_BSD.device) < lens_B.unsqueeze(1)
        positions = self.positions(frames, x_BSD.dtype)
        # Later: a chunk mask (S, S) for streaming is one more condition on attended_BSK.
        attended_BSK = valid_BS.unsqueeze(1)
        if self.context is not None:
            frame_S = torch.arange(frames, device=x_BSD.device)
            ahead_SK = frame_S - frame_S.unsqueeze(1)
            attended_BSK = attended_BSK & (-self.context[0] <= ahead_SK) & (ahead_SK <= self.context[1])
        for layer in self.layers:
            x_BSD = layer(x_BSD, positions, attended_BSK, valid_BS)
        return EncoderOut(x_BSD, lens_B)


class ConformerLayer(nn.Module):
    """Half a feed-forward, self-attention, convolution, half a feed-forward, each residual, and a norm (eq. 1)."""

    def __init__(self, config: Conformer.Config) -> None:
        super().__init__()
        self.feedforward1 = FeedForward(config)
        self.attention = ATTENTIONS[config.positions](config)
        self.convolution = Convolution(config)
        self.feedforward2 = FeedForward(config)
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, x_BSD: Tensor, positions: Tensor, attended_BSK: Tensor, valid_BS: Tensor) -> Tensor:
        x_BSD = x_BSD.add(self.feedforward1(x_BSD), alpha=0.5)
        x_BSD = x_BSD + self.attention(x_BSD, positions, attended_BSK)
        x_BSD = x_BSD + self.convolution(x_BSD, valid_BS)
        x_BSD = x_BSD.add(self.feedforward2(x_BSD), alpha=0.5)
        return self.norm(x_BSD)


class FeedForward(nn.Sequential):
    def __init__(self, config: Conformer.Config) -> None:
        super().__init__(
            nn.LayerNorm(config.dim),
            Linear(config.dim, config.feedforward),
            nn.SiLU(),
            Dropout(config.dropout),
            Linear(config.feedforward, config.dim),
            Dropout(config.dropout),
        )


class Convolution(nn.Module):
    """Pointwise convolution with GLU, depthwise convolution, norm, swish, pointwise convolution (figure 2)."""

    def __init__(self, config: Conformer.Config) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.dim)
        self.expand = Linear(config.dim, 2 * config.dim)
        self.depthwise = nn.Conv1d(config.dim, config.dim, config.kernel, padding=config.kernel // 2, groups=config.dim)
        self.norm: Any = nn.LayerNorm(config.dim) if config.norm == "layer" else MaskedBatchNorm(config.dim)
        self.contract = Linear(config.dim, config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BSD: Tensor, valid_BS: Tensor) -> Tensor:
        x_BSD = F.glu(self.expand(self.norm_in(x_BSD)), dim=-1).masked_fill(~valid_BS.unsqueeze(-1), 0.0)
        x_BSD = self.depthwise(x_BSD.transpose(1, 2)).transpose(1, 2)
        x_BSD = self.norm(x_BSD, valid_BS) if isinstance(self.norm, MaskedBatchNorm) else self.norm(x_BSD)
        return self.dropout(self.contract(F.silu(x_BSD)))


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics count valid frames only; frames of padding come out as zero."""

    def forward(self, x_BSD: Tensor, valid_BS: Tensor) -> Tensor:  # type: ignore[override]
        out_BSD = torch.zeros_like(x_BSD)
        frames_ND = x_BSD[valid_BS]
        out_BSD[valid_BS] = super().forward(frames_ND) if len(frames_ND) else frames_ND
        return out_BSD


class Attention(nn.Module):
    """Multi-head self-attention; how positions enter the scores is the subclasses' part."""

    def __init__(self, config: Conformer.Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dim)
        self.query_key_value = Linear(config.dim, 3 * config.dim)
        self.output = Linear(config.dim, config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BSD: Tensor, positions: Tensor, attended_BSK: Tensor) -> Tensor:
        batch, frames, dim = x_BSD.shape
        split_3BHSE = self.query_key_value(self.norm(x_BSD)).view(batch, frames, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query_BHSE, key_BHSE, value_BHSE = split_3BHSE.unbind(0)
        scores_BHSK = self.scores(query_BHSE / math.sqrt(dim // self.heads), key_BHSE, positions)
        # The lowest finite number, not -inf: an utterance without frames must give something finite.
        lowest = torch.finfo(scores_BHSK.dtype).min
        weights_BHSK = scores_BHSK.masked_fill(~attended_BSK.unsqueeze(1), lowest).softmax(dim=-1)
        mixed_BSD = (self.dropout(weights_BHSK) @ value_BHSE).transpose(1, 2).reshape(batch, frames, dim)
        return self.dropout(self.output(mixed_BSD))

    def scores(self, query_BHSE: Tensor, key_BHSE: Tensor, positions: Tensor) -> Tensor:
        raise NotImplementedError


class RotaryAttention(Attention):
    """Queries and keys are rotated by their position, so that scores depend on the difference.

    Su et al., "RoFormer", 2021, eq. 34, in the half-split layout.
    """

    def scores(self, query_BHSE: Tensor, key_BHSE: Tensor, positions: Tensor) -> Tensor:
        return _rotate(query_BHSE, positions) @ _rotate(key_BHSE, positions).transpose(-2, -1)


class RotaryPositions(nn.Module):
    frequency_E: Tensor

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("frequency_E", 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim), persistent=False)

    def forward(self, frames: int, dtype: torch.dtype) -> Tensor:
        """(2, S, E): cosines and sines of the angle of each pair of channels at each frame."""
        angle_SE = torch.outer(torch.arange(frames, device=self.frequency_E.device), self.frequency_E).repeat(1, 2)
        return torch.stack([angle_SE.cos(), angle_SE.sin()]).to(dtype)


def _rotate(x_BHSE: Tensor, positions_2SE: Tensor) -> Tensor:
    first, second = x_BHSE.chunk(2, dim=-1)
    return x_BHSE * positions_2SE[0] + torch.cat([-second, first], dim=-1) * positions_2SE[1]


class RelativeAttention(Attention):
    """Scores from content and from the distance between frames: Dai et al., "Transformer-XL", 2019, section 3.3."""

    def __init__(self, config: Conformer.Config) -> None:
        super().__init__(config)
        self.distance = Linear(config.dim, config.dim, bias=False)
        self.content_bias_HE = nn.Parameter(torch.zeros(config.heads, config.dim // config.heads))
        self.distance_bias_HE = nn.Parameter(torch.zeros(config.heads, config.dim // config.heads))

    def scores(self, query_BHSE: Tensor, key_BHSE: Tensor, positions: Tensor) -> Tensor:
        scale = 1 / math.sqrt(query_BHSE.shape[-1])  # the query comes scaled, so the biases must be, too
        distance_HRE = self.distance(positions).view(len(positions), self.heads, -1).transpose(0, 1)
        content_BHSK = (query_BHSE + self.content_bias_HE.unsqueeze(1) * scale) @ key_BHSE.transpose(-2, -1)
        distance_BHSR = (query_BHSE + self.distance_bias_HE.unsqueeze(1) * scale) @ distance_HRE.transpose(-2, -1)
        return content_BHSK + _to_absolute(distance_BHSR)


class RelativePositions(nn.Module):
    frequency_D: Tensor

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("frequency_D", 10000.0 ** (-torch.arange(0, dim, 2) / dim), persistent=False)

    def forward(self, frames: int, dtype: torch.dtype) -> Tensor:
        """(R, D): sinusoids of the distances S - 1 ... -(S - 1) from key to query."""
        distance_R = torch.arange(frames - 1, -frames, -1, device=self.frequency_D.device)
        angle_RD = torch.outer(distance_R, self.frequency_D)
        return torch.cat([angle_RD.sin(), angle_RD.cos()], dim=-1).to(dtype)


def _to_absolute(scores_BHSR: Tensor) -> Tensor:
    """(B, H, S, 2S - 1) by distance S - 1 ... -(S - 1) to (B, H, S, S) by key: out[s, k] = scores[s, S - 1 - s + k]."""
    batch, heads, frames, _ = scores_BHSR.shape
    padded = F.pad(scores_BHSR, (1, 0)).view(batch, heads, 2 * frames, frames)
    return padded[:, :, 1:].reshape(batch, heads, frames, 2 * frames - 1)[..., :frames]


POSITIONS: dict[str, Any] = {"rotary": RotaryPositions, "relative": RelativePositions}
ATTENTIONS: dict[str, Any] = {"rotary": RotaryAttention, "relative": RelativeAttention}
