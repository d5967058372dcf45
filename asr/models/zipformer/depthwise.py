"""Depthwise convolution with the channels last, and a backward pass that is fast on CPUs.

Letters: B images, T rows (time), Q columns, C channels, K rows and J columns of the kernel.
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from asr.models.zipformer.dense import autocast_dtype


def depthwise(x_BTQC: Tensor, weight_C1KJ: Tensor, bias_C: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """Convolves each channel with its own kernel; ``padding`` zeros at both ends of the rows and of the columns."""
    if x_BTQC.device.type != "cpu" or not torch.is_grad_enabled() or autocast_dtype(x_BTQC) != weight_C1KJ.dtype:
        return _convolve(x_BTQC, weight_C1KJ, bias_C, padding)
    return _Depthwise.apply(x_BTQC, weight_C1KJ, bias_C, padding)


def depthwise_1d(x_BTC: Tensor, weight_C1K: Tensor, bias_C: Tensor | None, padding: int) -> Tensor:
    """The same along time alone: an image one column wide, which oneDNN computes faster than one a row high."""
    return depthwise(x_BTC.unsqueeze(2), weight_C1K.unsqueeze(3), bias_C, (padding, 0)).squeeze(2)


def _convolve(x_BTQC: Tensor, weight_C1KJ: Tensor, bias_C: Tensor | None, padding: tuple[int, int]) -> Tensor:
    kernel = weight_C1KJ.contiguous(memory_format=torch.channels_last)
    out = F.conv2d(x_BTQC.permute(0, 3, 1, 2), kernel, bias_C, padding=padding, groups=len(kernel))
    return out.permute(0, 2, 3, 1).contiguous()


class _Depthwise(Function):
    @staticmethod
    def forward(ctx: Any, x_BTQC: Tensor, weight_C1KJ: Tensor, bias_C: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x_BTQC, weight_C1KJ)
        ctx.padding, ctx.has_bias = padding, bias_C is not None
        return _convolve(x_BTQC, weight_C1KJ, bias_C, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_BTQC, weight = ctx.saved_tensors
        around = (weight.shape[2] - 1 - ctx.padding[0], weight.shape[3] - 1 - ctx.padding[1])
        x_grad = _convolve(grad, weight.flip(2, 3), None, around)
        bias_grad = grad.flatten(0, 2).sum(0) if ctx.has_bias else None
        return x_grad, _weight_grad(x_BTQC, grad.contiguous(), weight, ctx.padding), bias_grad, None


def _weight_grad(x_BTQC: Tensor, grad_BTQC: Tensor, weight_C1KJ: Tensor, padding: tuple[int, int]) -> Tensor:
    """One column of the kernel after the other, image by image: a third of the time oneDNN takes for all columns at once."""
    columns = weight_C1KJ.shape[3]
    if columns == 1:
        return _column_grad(x_BTQC, grad_BTQC, weight_C1KJ, padding[0])
    total = torch.zeros_like(weight_C1KJ)
    for x_TQC, grad_TQC in zip(x_BTQC, grad_BTQC):
        padded = F.pad(x_TQC, (0, 0, padding[1], padding[1])).unsqueeze(0)
        for j in range(columns):
            shifted = padded[:, :, j : j + grad_TQC.shape[1]].contiguous()
            total[..., j : j + 1] += _column_grad(shifted, grad_TQC.unsqueeze(0), weight_C1KJ[..., :1], padding[0])
    return total


def _column_grad(x_BTQC: Tensor, grad_BTQC: Tensor, weight_C1K1: Tensor, padding: int) -> Tensor:
    images = [t.permute(0, 3, 1, 2) for t in (grad_BTQC, x_BTQC)]
    kernel = weight_C1K1.contiguous(memory_format=torch.channels_last)
    return torch.ops.aten.convolution_backward(
        *images, kernel, None, [1, 1], [padding, 0], [1, 1], False, [0, 0], len(kernel), [False, True, False]
    )[1]
