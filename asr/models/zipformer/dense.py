"""Matrix products that are fast on every CPU.

torch leaves float32 matrix products to MKL, which takes a slow path on processors that are not Intel's (2 to 5 times slower
than possible), but convolutions to oneDNN, which is fast everywhere. So a product of rows is computed here as a convolution
of an image with one pixel per row. oneDNN compiles code for each new shape, which takes longer than a small product: rows
are cut into blocks of a few fixed sizes, and what is left over goes to torch.

Letters: N rows, I input and O output channels.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

BLOCK = 1024
"""Rows of the largest block; with a few hundred channels it stays in the cache."""

_BLOCKS = (BLOCK, 256, 64)
_WORTHWHILE = 1 << 22
"""Multiply-adds from which on a block is worth a convolution's overhead."""
_IMAGES = 16
"""The smallest batch for which torch gives a convolution one pixel wide to oneDNN on one thread."""


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """layer(x) for x (..., I)."""
    if _is_plain(x) or autocast_dtype(x) != layer.weight.dtype:
        return F.linear(x, layer.weight, layer.bias)
    if not torch.is_grad_enabled():
        return affine(x, layer.weight, layer.bias)
    return _Linear.apply(x, layer.weight, layer.bias)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The type autocast would compute a matrix product of x in."""
    device = x.device.type
    if hasattr(torch, "get_autocast_dtype"):  # torch 2.4 and later
        is_enabled: Any = torch.is_autocast_enabled
        enabled, dtype = is_enabled(device), torch.get_autocast_dtype(device)
    elif device == "cuda":
        enabled, dtype = torch.is_autocast_enabled(), torch.get_autocast_gpu_dtype()
    else:
        enabled, dtype = torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
    return dtype if enabled else x.dtype


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_NO = grad.reshape(-1, grad.shape[-1])
        x_grad = affine(grad, weight.t()) if ctx.needs_input_grad[0] else None
        return x_grad, outer(grad_NO, x.reshape(-1, x.shape[-1])), grad_NO.sum(0) if ctx.has_bias else None


def affine(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x (..., I) times the weight, plus the bias: (..., O). No gradient is recorded."""
    if _is_plain(x):
        return F.linear(x, weight_OI, bias_O)
    x_NI = x.reshape(-1, x.shape[-1])
    blocks = [_block_affine(x_NI[block.begin : block.end], weight_OI, bias_O, block.fixed) for block in _blocks(x_NI, weight_OI)]
    return (blocks[0] if len(blocks) == 1 else torch.cat(blocks)).view(*x.shape[:-1], len(weight_OI))


def _block_affine(x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, fixed: bool) -> Tensor:
    if not fixed:
        return F.linear(x_NI, weight_OI, bias_O)
    return F.conv2d(_image(x_NI), weight_OI[:, :, None, None], bias_O).permute(0, 2, 3, 1).reshape(len(x_NI), -1)


def outer(a_NO: Tensor, b_NI: Tensor) -> Tensor:
    """The transpose of a times b: (O, I). No gradient is recorded."""
    if _is_plain(a_NO):
        return a_NO.t() @ b_NI
    total_OI = a_NO.new_zeros(a_NO.shape[1], b_NI.shape[1])
    kernel = total_OI[:, :, None, None]
    for block in _blocks(b_NI, total_OI):
        a, b = a_NO[block.begin : block.end], b_NI[block.begin : block.end]
        if not block.fixed:
            total_OI.addmm_(a.t(), b)
        else:
            total_OI += torch.ops.aten.convolution_backward(
                _image(a), _image(b), kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, False]
            )[1][:, :, 0, 0]
    return total_OI


def _is_plain(x: Tensor) -> bool:
    """Whether torch's own matrix product is as good: on other devices, in other types, without oneDNN."""
    return x.device.type != "cpu" or x.dtype != torch.float32 or not torch.backends.mkldnn.is_available()


def _image(block_NC: Tensor) -> Tensor:
    return block_NC.reshape(_IMAGES, 1, -1, block_NC.shape[1]).permute(0, 3, 1, 2)


class _Block(NamedTuple):
    begin: int
    end: int
    fixed: bool


def _blocks(x_NI: Tensor, weight_OI: Tensor) -> list[_Block]:
    """Blocks of the rows of x: as many as possible of the fixed sizes, then the rest."""
    rows, begin, blocks = len(x_NI), 0, []
    for size in _BLOCKS:
        while rows - begin >= size and size * weight_OI.numel() >= _WORTHWHILE:
            blocks.append(_Block(begin, begin + size, True))
            begin += size
    if begin < rows or not blocks:
        blocks.append(_Block(begin, rows, False))
    return blocks
