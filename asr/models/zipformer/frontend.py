"""The convolutional frontend: features at 100 Hz to embeddings at 50 Hz (Yao et al. 2023, section 3.1, "Conv-Embed"); and the plain
one, for what is no spectrogram.

Three convolutions (8, 32, 128 channels by default) halve time once and frequency twice, a ConvNeXt layer follows, then a
linear layer over all frequencies. Images are laid out (B, T, Q, C) throughout, Q being the remaining frequency bands.
"""
from __future__ import annotations

from typing import Iterator, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.models.subsampling import stacked
from asr.models.zipformer.activations import SWOOSH_L, SWOOSH_R, BiasNorm, scaled_linear, swoosh
from asr.models.zipformer.dense import linear
from asr.models.zipformer.depthwise import depthwise
from asr.models.zipformer.gradients import Balancer, Whiten
from asr.models.zipformer.layer import dropout_mask
from asr.models.zipformer.perceptron import perceptron
from asr.models.zipformer.schedule import DROPOUT, Schedule

CONTEXT = 3
"""Frames (at 50 Hz) the ConvNeXt layer looks to either side."""


Count = TypeVar("Count", int, Tensor)


def frames_out(features: Count) -> Count:
    """Embeddings (50 Hz) of so many feature frames (100 Hz)."""
    return (features - 7) // 2


_PIECE = 32
"""Half the frames that evaluation takes through the frontend at a time."""


def _starts(frames: int) -> Iterator[int]:
    """First frames of pieces of 2 * _PIECE, the last moved back to end with the utterance: oneDNN likes to see the same shapes."""
    yield from range(0, frames - 2 * _PIECE, 2 * _PIECE)
    yield max(0, frames - 2 * _PIECE)


def convolve(x_BTQC: Tensor, conv: nn.Conv2d, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """A two-dimensional convolution with the channels last in memory, input and output."""
    image = x_BTQC.permute(0, 3, 1, 2)
    kernel = conv.weight.contiguous(memory_format=torch.channels_last)
    out = F.conv2d(image, kernel, conv.bias, stride=conv.stride, padding=padding, groups=conv.groups)
    return out.permute(0, 2, 3, 1).contiguous()


class ConvNeXt(nn.Module):
    """Depthwise 7 x 7 convolution and a two-layer perceptron on each pixel, around a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 3 * channels
        self.depthwise = nn.Conv2d(channels, channels, 2 * CONTEXT + 1, groups=channels)
        self.in_proj = nn.Linear(channels, hidden)
        self.out_proj = scaled_linear(hidden, channels, 0.01)
        self.skip = Schedule((0, 0.2), (20000, 0.015))
        self.balance_hidden = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.balance_out = Balancer(min_positive=0.4, max_positive=0.6, min_abs=1.0, max_abs=6.0)
        self.whiten = Whiten(5.0, growth=1.0)

    def forward(self, x_BTQC: Tensor, past: Tensor | None, future: bool, step: int | None) -> Tensor:
        """past: the CONTEXT frames before x, in a stream; None: zeros. future: x ends with CONTEXT frames that only lend context."""
        padding = CONTEXT
        around = x_BTQC
        if past is not None:
            padding, around = 0, F.pad(torch.cat((past, x_BTQC), dim=1), (0, 0, 0, 0, 0, 0 if future else CONTEXT))
            x_BTQC = x_BTQC[:, : around.shape[1] - 2 * CONTEXT]
        pixels = depthwise(around, self.depthwise.weight, self.depthwise.bias, (padding, CONTEXT))
        change = perceptron(pixels, self.in_proj, self.out_proj, SWOOSH_L, self.balance_hidden.draw(step))
        if step is not None:
            change = change * (torch.rand(x_BTQC.shape[0], 1, 1, 1, device=change.device) > self.skip(step)).to(change.dtype)
        return self.whiten(self.balance_out(x_BTQC + change, step), step)


class Frontend(nn.Module):
    """(B, T, F) to (B, (T - 7) // 2, output_dim)."""

    reads_mel = True
    factor = 2
    min_frames = 9

    def __init__(self, feature_dim: int, output_dim: int, channels: tuple[int, int, int]) -> None:
        super().__init__()
        if feature_dim < 7:
            raise ValueError(f"the Zipformer frontend needs features of at least 7 dimensions, got {feature_dim}")
        first, second, third = channels
        self.bands = ((feature_dim - 1) // 2 - 1) // 2
        self.conv1 = nn.Conv2d(1, first, 3)
        self.conv2 = nn.Conv2d(first, second, 3, stride=2)
        self.conv3 = nn.Conv2d(second, third, 3, stride=(1, 2))
        self.convnext = ConvNeXt(third)
        self.out_proj = nn.Linear(self.bands * third, output_dim)
        self.norm = BiasNorm(output_dim)
        self.balance1 = Balancer(max_abs=1.0)
        self.balance2 = self.balance3 = Balancer(max_abs=4.0)
        self.whiten = Whiten(4.0, grad_scale=0.02)

    @staticmethod
    def frames_out(lens_B: Tensor) -> Tensor:
        return frames_out(lens_B)

    @staticmethod
    def features_needed(chunk: int) -> int:
        """Feature frames that a chunk of so many embeddings depends on."""
        return 2 * (chunk + CONTEXT) + 7

    def start(self, streams: int, device: torch.device | str) -> Tensor:
        """The left context of the ConvNeXt layer at the beginning of streams."""
        return torch.zeros(streams, CONTEXT, self.bands, self.conv3.out_channels, device=device)

    def step(self, x_BTF: Tensor, lens_B: Tensor, past_BLQC: Tensor, future: bool) -> tuple[Tensor, Tensor]:
        """Embeddings and the left context of the next. lens_B: embeddings that are each stream's own, counting those that only lend
        context, with which x ends where ``future`` says so."""
        image = self.embed(x_BTF, None)
        pad_BS = torch.arange(image.shape[1], device=image.device) >= lens_B.unsqueeze(1)
        image = image.masked_fill(pad_BS[:, :, None, None], 0.0)
        used = image.shape[1] - (CONTEXT if future else 0)
        following_BLQC = torch.cat((past_BLQC, image[:, :used]), dim=1)[:, -CONTEXT:]
        return self.project(self.convnext(image, past_BLQC, future, None), None), following_BLQC

    def forward(self, x_BTF: Tensor, lens_B: Tensor | None, step: int | None) -> Tensor:
        """(B, S, output_dim) of whole utterances. lens_B: embeddings of each utterance; None: all of them everywhere."""
        if step is None and x_BTF.device.type == "cpu" and not torch.is_grad_enabled():
            lens = [frames_out(x_BTF.shape[1])] * len(x_BTF) if lens_B is None else lens_B.tolist()
            rows = [self._by_pieces(x_TF[: 2 * length + 7], length) for x_TF, length in zip(x_BTF, lens)]
            return pad_sequence(rows, batch_first=True)
        x = self.embed(x_BTF, step)
        if lens_B is not None:
            pad_BS = torch.arange(x.shape[1], device=x.device) >= lens_B.unsqueeze(1)
            x = x.masked_fill(pad_BS[:, :, None, None], 0.0)
        return self.project(self.convnext(x, None, False, step), step)

    def _by_pieces(self, x_TF: Tensor, frames: int) -> Tensor:
        """(S, output_dim) of one utterance, computed in pieces that stay in the cache, without padding."""
        image = x_TF.new_zeros(1, frames + 2 * CONTEXT, self.bands, self.conv3.out_channels)
        for begin in _starts(frames):
            features = x_TF[2 * begin : 2 * (begin + 2 * _PIECE) + 7].unsqueeze(0)
            if frames >= 2 * _PIECE:  # as two images: torch computes a single small one slowly
                features = torch.cat((features[:, : 2 * _PIECE + 7], features[:, 2 * _PIECE :]))
            embedded = self.embed(features, None).flatten(0, 1)
            image[0, CONTEXT + begin : CONTEXT + begin + len(embedded)] = embedded
        pixels = x_TF.new_empty(1, frames, self.bands, self.conv3.out_channels)
        for begin in _starts(frames):
            window = image[:, begin : begin + 2 * (_PIECE + CONTEXT)]
            piece = depthwise(window, self.convnext.depthwise.weight, self.convnext.depthwise.bias, (0, CONTEXT))
            pixels[:, begin : begin + piece.shape[1]] = piece
        change = perceptron(pixels, self.convnext.in_proj, self.convnext.out_proj, SWOOSH_L, None)
        return self.project(change.add_(image[:, CONTEXT : CONTEXT + frames]), None)[0]

    def embed(self, x_BTF: Tensor, step: int | None) -> Tensor:
        """The first three convolutions: (B, (T - 7) // 2, Q, C)."""
        # A fifth of the gradient reaches the first layer, whose weights would get too much of it.
        x = swoosh(self.balance1(convolve(x_BTF.unsqueeze(-1), self.conv1, (0, 1)), step), SWOOSH_R, grad_scale=0.2)
        x = swoosh(self.balance2(convolve(x, self.conv2), step), SWOOSH_R)
        return swoosh(self.balance3(convolve(x, self.conv3), step), SWOOSH_R)

    def project(self, x_BTQC: Tensor, step: int | None) -> Tensor:
        x = self.norm(self.whiten(linear(x_BTQC.flatten(2), self.out_proj), step), step)
        return x if step is None else x * dropout_mask((x.shape[0], 1, x.shape[2]), DROPOUT(step), x)


class FrameFrontend(nn.Module):
    """(B, T, F) to (B, T // factor, output_dim): stacked frames, projected. The interface is that of :class:`Frontend`."""

    reads_mel = False

    def __init__(self, feature_dim: int, output_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = self.min_frames = factor
        self.out_proj = nn.Linear(factor * feature_dim, output_dim)
        self.norm = BiasNorm(output_dim)
        self.whiten = Whiten(4.0, grad_scale=0.02)

    def frames_out(self, lens_B: Tensor) -> Tensor:
        return lens_B // self.factor

    def features_needed(self, chunk: int) -> int:
        return chunk * self.factor

    def start(self, streams: int, device: torch.device | str) -> Tensor:
        return torch.zeros(streams, 0, device=device)

    def step(self, x_BTF: Tensor, lens_B: Tensor, past: Tensor, future: bool) -> tuple[Tensor, Tensor]:
        return self(x_BTF, lens_B, None), past

    def forward(self, x_BTF: Tensor, lens_B: Tensor | None, step: int | None) -> Tensor:
        x = self.norm(self.whiten(linear(stacked(x_BTF, self.factor), self.out_proj), step), step)
        return x if step is None else x * dropout_mask((x.shape[0], 1, x.shape[2]), DROPOUT(step), x)
