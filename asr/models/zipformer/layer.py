"""One layer of Zipformer (Yao et al. 2023, figure 2)."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.models.memory import Memory
from asr.models.zipformer.activations import SWOOSH_L, BiasNorm, scaled_linear, swoosh_linear
from asr.models.zipformer.attention import AttentionWeights, NonlinearAttention, SelfAttention
from asr.models.zipformer.convolution import ConvModule
from asr.models.zipformer.dense import linear
from asr.models.zipformer.gradients import Balancer, Whiten, limit
from asr.models.zipformer.schedule import DROPOUT, Schedule, Value, at


@dataclass(frozen=True)
class Frames:
    """What the layers of a stack must know of the frames they get.

    lens_B: frames of each utterance at the stack's rate.
    pad_BT: True beyond the utterance; None where there is no such frame.
    mask: bool, broadcastable to (B, T, S), True where a key is hidden from a query; None where all see all.
    chunk: frames that a convolution may look at together; None: the utterance.
    positions: encodings (R, pos_dim) of the offsets between keys and queries.
    """

    lens_B: Tensor
    pad_BT: Tensor | None
    mask: Tensor | None
    chunk: int | None
    positions: Tensor


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, hidden)
        self.out_proj = scaled_linear(hidden, dim, 0.1)
        self.balance = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.whiten = Whiten(7.5)

    def forward(self, x_BTD: Tensor, step: int | None) -> Tensor:
        hidden = self.balance(linear(x_BTD, self.in_proj), step)
        keep = None if step is None else dropout_mask((x_BTD.shape[0], 1, hidden.shape[-1]), DROPOUT(step), hidden)
        return self.whiten(swoosh_linear(hidden, self.out_proj, SWOOSH_L, keep), step)


def dropout_mask(shape: tuple[int, ...], rate: float, like: Tensor) -> Tensor:
    """1 / (1 - rate) where a value is kept, else 0; smaller than the values it drops, so shared along the axes of size one."""
    return (torch.rand(shape, device=like.device) > rate).to(like.dtype) / (1 - rate)


def skip_mask(batch: int, rate: float, like: Tensor) -> Tensor | None:
    """(B, 1, 1): zero for the utterances that skip a module; None where none does."""
    return None if rate == 0.0 else (torch.rand(batch, 1, 1, device=like.device) > rate).to(like.dtype)


class Bypass(nn.Module):
    """before + scale * (after - before), a learned scale per channel (equation 2); whole utterances skip at rate ``skip``.

    Training holds the scale above a floor that starts near one, so that every module must learn something first.
    """

    floor = Schedule((0, 0.9), (20000, 0.2))

    def __init__(self, dim: int, skip: Value = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), 0.5))
        self.skip = skip

    def forward(self, before: Tensor, after: Tensor, step: int | None) -> Tensor:
        scale: Tensor = self.scale
        if step is not None:
            scale = limit(scale, self.floor(step), 1.0, step)
            stays = skip_mask(before.shape[0], at(self.skip, step), scale)
            scale = scale if stays is None else scale * stays
        return before + (after - before) * scale


class Layer(nn.Module):
    def __init__(
        self, dim: int, *, heads: int, feed_forward: int, kernel: int, query_head_dim: int, value_head_dim: int,
        pos_head_dim: int, pos_dim: int, causal: bool, skip: Value,
    ) -> None:
        """skip: how often training skips the whole layer for an utterance."""
        super().__init__()
        self.attention = AttentionWeights(dim, heads=heads, query_dim=query_head_dim, pos_head_dim=pos_head_dim, pos_dim=pos_dim)
        self.feed_forward1 = FeedForward(dim, feed_forward * 3 // 4)
        self.feed_forward2 = FeedForward(dim, feed_forward)
        self.feed_forward3 = FeedForward(dim, feed_forward * 5 // 4)
        self.nonlinear = NonlinearAttention(dim)
        self.self_attention1 = SelfAttention(dim, heads=heads, value_dim=value_head_dim)
        self.self_attention2 = SelfAttention(dim, heads=heads, value_dim=value_head_dim)
        self.conv1 = ConvModule(dim, kernel, causal)
        self.conv2 = ConvModule(dim, kernel, causal)
        self.bypass_middle = Bypass(dim)
        self.norm = BiasNorm(dim)
        self.bypass = Bypass(dim, skip)

        self.skip_attention = self.skip_conv = Schedule((0, 0.2), (4000, 0.05), (16000, 0.0))
        self.skip_feed_forward = Schedule((0, 0.1), (4000, 0.01), (50000, 0.0))
        sides = {"min_positive": 0.3, "max_positive": 0.7}
        self.balance_nonlinear = Balancer(**sides, min_abs=Schedule((0, 0.004), (4000, 0.02)), prob=0.05)
        self.balance_feed_forward2 = Balancer(**sides, min_abs=Schedule((0, 0.0), (4000, 0.1)), max_abs=2.0, prob=0.05)
        self.balance_feed_forward3 = Balancer(**sides, min_abs=Schedule((0, 0.0), (4000, 0.2)), max_abs=4.0, prob=0.05)
        self.balance_norm = Balancer(min_positive=0.45, max_positive=0.55, min_abs=0.2, max_abs=4.0)
        self.balance_out = Balancer(min_positive=0.45, max_positive=0.55, min_abs=0.1, max_abs=4.0)
        self.whiten = Whiten(4.0, growth=3.0)

    def forward(self, x_BTD: Tensor, frames: Frames, memory: Memory | None, step: int | None) -> Tensor:
        """(B, T, D) to the same. memory: the stream's left context; None for whole utterances. step: None outside training."""
        weights = self.attention(x_BTD, frames.positions, frames.mask, memory, step)
        with_attention = self._skip(x_BTD, self.skip_attention, step)
        x = x_BTD + self.feed_forward1(x_BTD, step)
        x = _add(x, self.balance_nonlinear(self.nonlinear(x, weights, memory, step), step), with_attention)
        x = _add(x, self.self_attention1(x, weights, memory, "values1", step), with_attention)
        x = _add(x, self._convolve(self.conv1, x, frames, memory, "conv1", step), self._skip(x, self.skip_conv, step))
        x = _add(x, self.balance_feed_forward2(self.feed_forward2(x, step), step), self._skip(x, self.skip_feed_forward, step))
        x = self.bypass_middle(x_BTD, x, step)
        x = _add(x, self.self_attention2(x, weights, memory, "values2", step), with_attention)
        x = _add(x, self._convolve(self.conv2, x, frames, memory, "conv2", step), self._skip(x, self.skip_conv, step))
        x = _add(x, self.balance_feed_forward3(self.feed_forward3(x, step), step), self._skip(x, self.skip_feed_forward, step))
        x = self.norm(self.balance_norm(x, step), step)
        return self.whiten(self.balance_out(self.bypass(x_BTD, x, step), step), step)

    @staticmethod
    def _convolve(module: ConvModule, x: Tensor, frames: Frames, memory: Memory | None, name: str, step: int | None) -> Tensor:
        return module(x, frames.lens_B, frames.pad_BT, frames.chunk, memory, name, step)

    @staticmethod
    def _skip(x: Tensor, rate: Schedule, step: int | None) -> Tensor | None:
        return None if step is None else skip_mask(x.shape[0], rate(step), x)


def _add(x: Tensor, change: Tensor, stays: Tensor | None) -> Tensor:
    return x + (change if stays is None else change * stays)
