"""Self-attention with positions, and the feed-forward module: what Conformer, Transformer predictor and attention decoder are made of.

Shape legend: asr/types.py; Q queries, K keys (the last Q of which are the queries' own frames), H attention heads, E channels of
one head, R relative positions (K + Q - 1).
"""
from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.models.layers import Dropout, Linear
from asr.models.memory import Memory, join

Positions = Literal["rotary", "relative"]


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__(nn.LayerNorm(dim), Linear(dim, hidden), nn.SiLU(), Dropout(dropout), Linear(hidden, dim), Dropout(dropout))


class Attention(nn.Module):
    """Multi-head self-attention; how positions enter the scores is the subclasses' part."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query_key_value = Linear(dim, 3 * dim)
        self.output = Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_BQD: Tensor, positions: Tensor, attended_BQK: Tensor, memory: Memory | None = None) -> Tensor:
        """positions: what :data:`POSITIONS` give. attended_BQK: bool, broadcastable. memory: remembers ``keys_values`` (B, P, 2D)
        of the P = K - Q frames before x; None where there are none."""
        batch, queries, dim = x_BQD.shape
        query_BQD, key_value_BQC = self.query_key_value(self.norm(x_BQD)).split((dim, 2 * dim), dim=-1)
        query_BHQE = query_BQD.view(batch, queries, self.heads, -1).transpose(1, 2)
        key_value_BKC = join(memory, "keys_values", key_value_BQC)
        split_2BHKE = key_value_BKC.view(batch, key_value_BKC.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        key_BHKE, value_BHKE = split_2BHKE.unbind(0)
        scores_BHQK = self.scores(query_BHQE / math.sqrt(dim // self.heads), key_BHKE, positions)
        return self.dropout(self.output(attended(scores_BHQK, value_BHKE, attended_BQK, self.dropout)))

    def scores(self, query_BHQE: Tensor, key_BHKE: Tensor, positions: Tensor) -> Tensor:
        raise NotImplementedError


def attended(scores_BHQK: Tensor, value_BHKE: Tensor, attended_BQK: Tensor, dropout: Dropout) -> Tensor:
    """(B, Q, H * E): values weighted by the softmax of the scores, of the keys that may be attended to (bool, broadcastable)."""
    # The lowest finite number, not -inf: an utterance without frames must give something finite.
    lowest = torch.finfo(scores_BHQK.dtype).min
    weights_BHQK = scores_BHQK.masked_fill(~attended_BQK.unsqueeze(1), lowest).softmax(dim=-1)
    return (dropout(weights_BHQK) @ value_BHKE).transpose(1, 2).flatten(2)


class RotaryAttention(Attention):
    """Queries and keys are rotated by their position, so that scores depend on the difference.

    Su et al., "RoFormer", 2021, eq. 34, in the half-split layout.
    """

    def scores(self, query_BHQE: Tensor, key_BHKE: Tensor, positions: Tensor) -> Tensor:
        query_BHQE = rotate(query_BHQE, positions[:, positions.shape[1] - query_BHQE.shape[2] :])
        return query_BHQE @ rotate(key_BHKE, positions).transpose(-2, -1)


class RotaryPositions(nn.Module):
    frequency_E: Tensor

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("frequency_E", 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim), persistent=False)

    def forward(self, queries: int, keys: int, dtype: torch.dtype) -> Tensor:
        """(2, K, E): cosines and sines of the angle of each pair of channels at each key."""
        angle_KE = torch.outer(torch.arange(keys, device=self.frequency_E.device), self.frequency_E).repeat(1, 2)
        return torch.stack([angle_KE.cos(), angle_KE.sin()]).to(dtype)


def rotate(x_BHKE: Tensor, positions_2KE: Tensor) -> Tensor:
    first, second = x_BHKE.chunk(2, dim=-1)
    return x_BHKE * positions_2KE[0] + torch.cat([-second, first], dim=-1) * positions_2KE[1]


class RelativeAttention(Attention):
    """Scores from content and from the distance between frames: Dai et al., "Transformer-XL", 2019, section 3.3."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout)
        self.distance = Linear(dim, dim, bias=False)
        self.content_bias_HE = nn.Parameter(torch.zeros(heads, dim // heads))
        self.distance_bias_HE = nn.Parameter(torch.zeros(heads, dim // heads))

    def scores(self, query_BHQE: Tensor, key_BHKE: Tensor, positions: Tensor) -> Tensor:
        scale = 1 / math.sqrt(query_BHQE.shape[-1])  # the query comes scaled, so the biases must be, too
        distance_HRE = self.distance(positions).view(len(positions), self.heads, -1).transpose(0, 1)
        content_BHQK = (query_BHQE + self.content_bias_HE.unsqueeze(1) * scale) @ key_BHKE.transpose(-2, -1)
        distance_BHQR = (query_BHQE + self.distance_bias_HE.unsqueeze(1) * scale) @ distance_HRE.transpose(-2, -1)
        return content_BHQK + to_absolute(distance_BHQR)


class RelativePositions(nn.Module):
    frequency_D: Tensor

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("frequency_D", 10000.0 ** (-torch.arange(0, dim, 2) / dim), persistent=False)

    def forward(self, queries: int, keys: int, dtype: torch.dtype) -> Tensor:
        """(R, D): sinusoids of the distances K - 1 ... -(Q - 1) from key to query."""
        distance_R = torch.arange(keys - 1, -queries, -1, device=self.frequency_D.device)
        angle_RD = torch.outer(distance_R, self.frequency_D)
        return torch.cat([angle_RD.sin(), angle_RD.cos()], dim=-1).to(dtype)


def to_absolute(scores_BHQR: Tensor) -> Tensor:
    """(B, H, Q, K + Q - 1) by distance K - 1 ... -(Q - 1) to (B, H, Q, K) by key: out[q, k] = scores[q, Q - 1 - q + k]."""
    batch, heads, queries, distances = scores_BHQR.shape
    padded = F.pad(scores_BHQR, (1, 0)).view(batch, heads, distances + 1, queries)
    return padded[:, :, 1:].reshape(batch, heads, queries, distances)[..., : distances + 1 - queries]


POSITIONS: dict[Positions, Any] = {"rotary": RotaryPositions, "relative": RelativePositions}
ATTENTIONS: dict[Positions, Any] = {"rotary": RotaryAttention, "relative": RelativeAttention}
