"""SwooshL, SwooshR and BiasNorm with hand-written gradients: each keeps nothing but its input for the backward pass.

Yao et al. 2023, sections 3.2 (BiasNorm) and 3.3 (SwooshR, SwooshL).
"""
from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from asr.models.zipformer.dense import affine, autocast_dtype, outer
from asr.models.zipformer.gradients import limit


class Swoosh(NamedTuple):
    """The function log(1 + exp(x - shift)) - 0.08 x - offset."""

    shift: float
    offset: float

    def value(self, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        for part, source in _pieces(y, x):
            torch.sub(source, self.shift, out=part)
            F.softplus(part, 1.0, 20.0, out=part).add_(source, alpha=-_SLOPE).sub_(self.offset)
        return y

    def descent(self, x: Tensor, grad: Tensor, scale: float = 1.0) -> Tensor:
        """The gradient of x, given that of the value."""
        x_grad = torch.empty_like(x)
        for part, source, grad_part in _pieces(x_grad, x, grad):
            torch.sub(source, self.shift, out=part).sigmoid_().sub_(_SLOPE).mul_(grad_part)
            if scale != 1.0:
                part.mul_(scale)
        return x_grad


def _pieces(*tensors: Tensor) -> Iterable[Sequence[Tensor]]:
    """The tensors, all of one shape; in pieces that stay in the cache where a CPU passes over them several times."""
    if tensors[0].device.type != "cpu" or tensors[0].numel() <= _PIECE or not all(t.is_contiguous() for t in tensors):
        return [tensors]
    return zip(*(t.view(-1).split(_PIECE) for t in tensors))


SWOOSH_L = Swoosh(4.0, 0.035)
SWOOSH_R = Swoosh(1.0, 0.313261687)
_SLOPE = 0.08
_PIECE = 1 << 16


def scaled_linear(inputs: int, outputs: int, scale: float, bias: bool = True) -> nn.Linear:
    """A linear layer whose initial values are scaled down, so that a residual branch starts as a small correction."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(scale)
        if bias:
            layer.bias.uniform_(-0.1 * scale, 0.1 * scale)
    return layer


def swoosh(x: Tensor, kind: Swoosh, grad_scale: float = 1.0) -> Tensor:
    """``kind`` of x; the gradient is multiplied by ``grad_scale``."""
    if not torch.is_grad_enabled():
        return kind.value(x)
    return _SwooshFunction.apply(x, kind, grad_scale)


class _SwooshFunction(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: Swoosh, grad_scale: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.kind, ctx.grad_scale = kind, grad_scale
        return kind.value(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.kind.descent(x, grad, ctx.grad_scale), None, None


def swoosh_linear(x: Tensor, linear: nn.Linear, kind: Swoosh, keep: Tensor | None = None) -> Tensor:
    """linear(swoosh(x) * keep) for x (..., D); ``keep`` is a dropout mask that broadcasts against x.

    The swoosh is computed again in the backward pass rather than kept.
    """
    if not torch.is_grad_enabled():
        return affine(kind.value(x), linear.weight, linear.bias)
    dtype = autocast_dtype(x)
    arguments = [None if t is None else t.to(dtype) for t in (x, linear.weight, linear.bias, keep)]
    with torch.autocast(x.device.type, enabled=False):
        return _SwooshLinear.apply(*arguments, kind)


class _SwooshLinear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, keep: Tensor | None, kind: Swoosh) -> Tensor:
        ctx.save_for_backward(x, weight, keep)
        ctx.kind = kind
        y = kind.value(x)
        return affine(y if keep is None else y.mul_(keep), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, keep = ctx.saved_tensors
        y, y_grad = ctx.kind.value(x), affine(grad, weight.t())
        if keep is not None:
            y.mul_(keep)
            y_grad.mul_(keep)
        rows = grad.reshape(-1, grad.shape[-1])
        return ctx.kind.descent(x, y_grad), outer(rows, y.view(-1, y.shape[-1])), rows.sum(0), None, None


class BiasNorm(nn.Module):
    """x / RMS(x - bias) * exp(log_scale): keeps some of the length of x, unlike LayerNorm (equation 3).

    log_scale is a scalar that training holds in [-1.5, 1.5].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, step: int | None) -> Tensor:
        return _BiasNormFunction.apply(x, self.bias, limit(self.log_scale, -1.5, 1.5, step))


class _BiasNormFunction(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        rms = torch.linalg.vector_norm(x - bias, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        inverse = x.shape[-1] ** 0.5 / rms
        ctx.save_for_backward(x, bias, log_scale, inverse)
        return x * (inverse * log_scale.exp()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, bias, log_scale, inverse = ctx.saved_tensors
        scale = inverse * log_scale.exp()
        weight = (grad * x).sum(-1, keepdim=True, dtype=scale.dtype) * scale  # d loss / d log(scale), row by row
        pull = weight * inverse.square() / x.shape[-1]
        x_grad = torch.addcmul(grad * scale.to(x.dtype), x - bias, pull.to(x.dtype), value=-1)
        rows = x.reshape(-1, x.shape[-1])
        bias_grad = (pull.reshape(1, -1).to(x.dtype) @ rows)[0] - bias * pull.sum()
        return x_grad, bias_grad.to(bias.dtype), weight.sum().to(log_scale.dtype)
