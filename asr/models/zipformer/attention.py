"""Attention of Zipformer: weights with relative positions, computed once per layer and used three times.

Yao et al. 2023, sections 3.1 and 3.2. Letters beyond asr/types.py: H heads, T queries, S keys (left context included),
K channels of a head's query or key, P of its position query, R = T + S - 1 offsets between a key and a query.
"""
from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from asr.models.memory import Memory, join
from asr.models.zipformer.activations import scaled_linear
from asr.models.zipformer.dense import autocast_dtype, linear
from asr.models.zipformer.gradients import Balancer, Whiten
from asr.models.zipformer.schedule import Schedule, chance

MASKED = -1000.0
"""Score of a masked key: finite, so that a query without any key gives no NaN, and low enough for a weight of exactly zero."""


def relative_positions(queries: int, keys: int, dim: int, device: torch.device) -> Tensor:
    """Encodings (R, dim) of the offsets 1 - keys ... queries - 1, an offset being the key's time minus the query's.

    Near zero, neighbouring offsets are told apart well, far away hardly: after a logarithmic compression the arc tangent
    maps the offset onto (-pi/2, pi/2), of which the columns hold cosines and sines. The last column is the constant one.
    """
    offset_R1 = torch.arange(1 - keys, queries, device=device, dtype=torch.float32).unsqueeze(1)
    resolution = math.sqrt(dim)
    compressed_R1 = resolution * offset_R1.sign() * ((offset_R1.abs() + resolution).log() - math.log(resolution))
    angle_R1 = (compressed_R1 / (dim / (2 * math.pi))).atan()
    angles = angle_R1 * torch.arange(1, dim // 2 + 1, device=device)
    encodings = torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(1)
    encodings[:, -1] = 1.0
    return encodings


class AttentionWeights(nn.Module):
    """Attention weights of content (query times key) plus relative position (position query times projected encoding)."""

    def __init__(self, dim: int, *, heads: int, query_dim: int, pos_head_dim: int, pos_dim: int) -> None:
        super().__init__()
        self.heads, self.query_dim, self.pos_head_dim = heads, query_dim, pos_head_dim
        # The usual division of the scores by sqrt(query_dim) lies in the initial values instead.
        self.in_proj = scaled_linear(dim, heads * (2 * query_dim + pos_head_dim), query_dim**-0.25)
        self.pos_proj = scaled_linear(pos_dim, heads * pos_head_dim, 0.05, bias=False)
        # The scores do not depend on the keys' mean, which would drift under an Adam-like optimiser.
        self.balance_keys = Balancer(min_positive=0.4, max_positive=0.6, min_abs=0.0, max_abs=100.0, prob=0.025)
        self.whiten_keys = Whiten(3.0, grad_scale=0.025, groups=heads)
        self.skip_positions = Schedule((0, 0.5), (4000, 0.0))

    def forward(
        self, x_BTD: Tensor, positions: Tensor, mask: Tensor | None, memory: Memory | None, step: int | None
    ) -> Tensor:
        """Weights (H, B, T, S). positions: (R, pos_dim). mask: bool, broadcastable to (B, T, S), True where a key is hidden."""
        content = self.heads * self.query_dim
        query, key, position = linear(x_BTD, self.in_proj).split((content, content, self.heads * self.pos_head_dim), dim=-1)
        key = join(memory, "keys", self.whiten_keys(self.balance_keys(key, step), step))
        if step is not None and chance(self.skip_positions(step)):
            position_HBTP = encoding_HPR = None
        else:
            position_HBTP = self._by_head(position)
            encoding_HPR = self.pos_proj(positions.to(position.dtype)).view(-1, self.heads, self.pos_head_dim).permute(1, 2, 0)
        restrain = step is not None and chance(0.1)
        return attention_weights(self._by_head(query), self._by_head(key), position_HBTP, encoding_HPR, mask, restrain)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).permute(2, 0, 1, 3)


def attention_weights(
    query_HBTK: Tensor, key_HBSK: Tensor, position_HBTP: Tensor | None, encoding_HPR: Tensor | None, mask: Tensor | None,
    restrain: bool = False,
) -> Tensor:
    """softmax over S of query . key + position . encoding[offset]: (H, B, T, S).

    restrain: adds 1e-4 to the gradient's size for each score beyond +-25, a failsafe against implausible parameters.
    """
    dtype = autocast_dtype(query_HBTK)
    inputs = [None if t is None else t.to(dtype) for t in (query_HBTK, key_HBSK, position_HBTP, encoding_HPR)]
    with torch.autocast(query_HBTK.device.type, enabled=False):
        return _AttentionWeights.apply(*inputs, mask, restrain)


def _of_pairs(by_offset_NTR: Tensor, keys: int) -> Tensor:
    """A view (N, T, S) of scores by offset (N, T, R): row t starts T - 1 - t offsets in."""
    n, queries, offsets = by_offset_NTR.shape
    strides = (queries * offsets, offsets - 1, 1)
    return by_offset_NTR.as_strided((n, queries, keys), strides, by_offset_NTR.storage_offset() + queries - 1)


class _AttentionWeights(Function):
    @staticmethod
    def forward(
        ctx: Any, query_HBTK: Tensor, key_HBSK: Tensor, position_HBTP: Tensor | None, encoding_HPR: Tensor | None,
        mask: Tensor | None, restrain: bool,
    ) -> Tensor:
        heads, batch, queries, _ = query_HBTK.shape
        keys = key_HBSK.shape[2]
        query_NTK, key_NSK = query_HBTK.flatten(0, 1), key_HBSK.flatten(0, 1)
        if position_HBTP is None or encoding_HPR is None:
            position_HMP = None
            scores_NTS = torch.bmm(query_NTK, key_NSK.transpose(1, 2))
        else:
            position_HMP = position_HBTP.flatten(1, 2)
            by_offset = torch.bmm(position_HMP, encoding_HPR).view(heads * batch, queries, -1)
            scores_NTS = torch.baddbmm(_of_pairs(by_offset, keys), query_NTK, key_NSK.transpose(1, 2))
        excess = scores_NTS.sign().mul_(scores_NTS.abs() > 25.0) if restrain else None
        scores = scores_NTS.view(heads, batch, queries, keys)
        if mask is not None:
            scores.masked_fill_(mask, MASKED)
        weights = F.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
        ctx.save_for_backward(query_NTK, key_NSK, position_HMP, encoding_HPR, weights, excess)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query_NTK, key_NSK, position_HMP, encoding_HPR, weights, excess = ctx.saved_tensors
        heads, batch, queries, keys = weights.shape
        slope_NTS = torch._softmax_backward_data(grad, weights, -1, weights.dtype).flatten(0, 1)
        if excess is not None:
            slope_NTS.add_(excess, alpha=1e-4)
        query_grad = torch.bmm(slope_NTS, key_NSK).view(heads, batch, queries, -1)
        key_grad = torch.bmm(slope_NTS.transpose(1, 2), query_NTK).view(heads, batch, keys, -1)
        if position_HMP is None:
            return query_grad, key_grad, None, None, None, None
        by_offset = slope_NTS.new_zeros(heads * batch, queries, queries + keys - 1)
        _of_pairs(by_offset, keys).copy_(slope_NTS)
        by_offset_HMR = by_offset.view(heads, batch * queries, -1)
        position_grad = torch.bmm(by_offset_HMR, encoding_HPR.transpose(1, 2)).view(heads, batch, queries, -1)
        encoding_grad = torch.bmm(position_HMP.transpose(1, 2), by_offset_HMR)
        return query_grad, key_grad, position_grad, encoding_grad, None, None


class SelfAttention(nn.Module):
    """Values averaged by given attention weights."""

    def __init__(self, dim: int, *, heads: int, value_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(dim, heads * value_dim)
        self.out_proj = scaled_linear(heads * value_dim, dim, 0.05)
        self.whiten = Whiten(7.5, growth=3.0)

    def forward(self, x_BTD: Tensor, weights_HBTS: Tensor, memory: Memory | None, name: str, step: int | None) -> Tensor:
        """(B, T, D). name: of the values in ``memory``."""
        values = join(memory, name, linear(x_BTD, self.in_proj))
        values_HBSV = values.view(*values.shape[:2], self.heads, -1).permute(2, 0, 1, 3)
        averaged = torch.matmul(weights_HBTS, values_HBSV).permute(1, 2, 0, 3).flatten(2)
        return self.whiten(linear(averaged, self.out_proj), step)


class NonlinearAttention(nn.Module):
    """A gated linear unit whose middle branch is averaged by the first head's attention weights (section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 3 * dim // 4
        self.in_proj = nn.Linear(dim, 3 * hidden)
        self.out_proj = scaled_linear(hidden, dim, 0.05)
        self.balance_gate = Balancer(
            min_positive=Schedule((0, 0.25), (20000, 0.05)), max_positive=Schedule((0, 0.75), (20000, 0.95)),
            min_abs=0.5, max_abs=5.0,
        )
        self.whiten_hidden = Whiten(5.0)
        self.whiten_out = Whiten(5.0, growth=3.0)

    def forward(self, x_BTD: Tensor, weights_HBTS: Tensor, memory: Memory | None, step: int | None) -> Tensor:
        gate, hidden, factor = linear(x_BTD, self.in_proj).chunk(3, dim=-1)
        hidden = self.whiten_hidden(hidden, step) * self.balance_gate(gate, step).tanh()
        averaged = torch.bmm(weights_HBTS[0], join(memory, "nonlinear", hidden).to(weights_HBTS.dtype))
        return self.whiten_out(linear(averaged * factor, self.out_proj), step)
