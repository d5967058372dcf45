"""Regularisers that change only the gradient: the forward pass is the identity (Yao et al. 2023, section 3.4 and appendix).

Zipformer keeps activations in a healthy range not by normalising them but by nudging the gradient where their statistics
leave it: `Balancer` per channel (sign and magnitude), `Whiten` for the covariance of all channels, `limit` for parameters.
Each acts on a random part of the training steps.
"""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from asr.models.zipformer.dense import affine, outer
from asr.models.zipformer.schedule import BALANCING, Schedule, Value, at, chance

_ABS_TO_RMS = math.sqrt(math.pi / 2)  # of a normal variable with mean zero


class Balancer:
    """Holds each channel's proportion of positive values and its mean absolute value in a range (appendix A.3).

    The limits are restated for a normal variable: proportion positive as mean / standard deviation, absolute value as
    root mean square. The gradient g of a value x becomes g + |g| h, h being the gradient of the channel's violation
    (distance of mean / stddev from its range plus log-distance of the RMS from its range), scaled to an RMS of ``grad_scale``.
    """

    def __init__(
        self, *, min_positive: Value = 0.05, max_positive: Value = 0.95, min_abs: Value = 0.2, max_abs: Value = 100.0,
        grad_scale: float = 0.04, prob: Value = BALANCING,
    ) -> None:
        self.min_positive, self.max_positive = min_positive, max_positive
        self.min_abs, self.max_abs = min_abs, max_abs
        self.grad_scale, self.prob = grad_scale, prob

    def __call__(self, x: Tensor, step: int | None) -> Tensor:
        """x: (..., D), returned as it is. step: None outside training."""
        limits = self.draw(step) if x.requires_grad else None
        return x if limits is None else _Balance.apply(x, limits)

    def draw(self, step: int | None) -> "Limits | None":
        """The limits of this step, or None where the dice say that it does not act."""
        if step is None or not chance(at(self.prob, step)):
            return None
        return Limits(
            _mean_of(at(self.min_positive, step)), _mean_of(at(self.max_positive, step)),
            at(self.min_abs, step) * _ABS_TO_RMS, at(self.max_abs, step) * _ABS_TO_RMS, self.grad_scale,
        )


class Limits(NamedTuple):
    """Of a balancer: mean / stddev and root mean square of each channel, and the size of the change where they are violated."""

    min_mean: float
    max_mean: float
    min_rms: float
    max_rms: float
    grad_scale: float


def _mean_of(proportion_positive: float) -> float:
    """mean / stddev of a normal variable that is positive so often; crude, near enough, and finite at 0 and 1."""
    x = 2 * proportion_positive - 1
    return (math.log(1 + x + 1e-10) - math.log(1 - x + 1e-10)) / (2 * math.sqrt(math.pi) * math.log(2))


class _Balance(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limits: Limits) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = limits
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        rows = x.reshape(-1, x.shape[-1]).float()
        push = Push.of(rows.mean(0), rows.square().mean(0), ctx.limits)
        return (grad if push is None else push.applied(grad, x)), None


class Push(NamedTuple):
    """h(x) = offset + slope * x of :class:`Balancer`, one of each per channel (D,); zero where nothing is violated."""

    offset: Tensor
    slope: Tensor

    def applied(self, grad: Tensor, x: Tensor) -> Tensor:
        h = torch.addcmul(self.offset.to(grad.dtype), x.to(grad.dtype), self.slope.to(grad.dtype))
        return torch.addcmul(grad, grad.abs(), h)

    @classmethod
    def of(cls, mean: Tensor, square: Tensor, limits: Limits) -> "Push | None":
        """mean, square: of each channel's values and of their squares. None (on CPU) where no channel violates the limits."""
        offset, slope = balance_direction(mean, square, limits)
        if offset.device.type == "cpu" and not bool((offset != 0).any() | (slope != 0).any()):
            return None
        return cls(offset, slope)


def balance_direction(mean: Tensor, square: Tensor, limits: Limits) -> tuple[Tensor, Tensor]:
    """Offset and slope of :class:`Push`."""
    mean, square = mean.double(), square.double().clamp(min=1e-20)
    variance = square - mean * mean
    std = variance.clamp(min=1e-20).sqrt()
    ratio, rms = mean / std, square.sqrt()
    mean_side = (ratio > limits.max_mean).double() - (ratio < limits.min_mean).double()
    rms_side = (rms > limits.max_rms).double() - (rms < limits.min_rms).double()
    curve = torch.where(variance > 1e-20, mean_side * mean / std**3, torch.zeros_like(std))
    offset = mean_side / std + curve * mean
    slope = rms_side / square - curve
    size = (offset**2 + 2 * offset * slope * mean + slope**2 * square).clamp(min=0).sqrt()
    scale = torch.where(size > 0, limits.grad_scale / size.clamp(min=1e-200), torch.zeros_like(size))
    return offset * scale, slope * scale


class Whiten:
    """Holds the spread of the covariance's eigenvalues below a limit (appendix A.3).

    The metric is mean(eigenvalue^2) / mean(eigenvalue)^2 of the centred covariance, one for white data. Above the limit,
    the metric's gradient is added, scaled to ``grad_scale`` times the norm of the loss's gradient.
    """

    def __init__(self, limit: float, *, growth: float = 2.0, grad_scale: float = 0.01, groups: int = 1, prob: float = 0.25) -> None:
        """limit: of the metric at step 0; ``growth`` times that from step 20000 on. groups: of channels, each whitened by itself."""
        self.limit = Schedule((0, limit), (20000, growth * limit))
        self.grad_scale, self.groups, self.prob = grad_scale, groups, prob

    def __call__(self, x: Tensor, step: int | None) -> Tensor:
        """x: (..., D), returned as it is. step: None outside training."""
        if step is None or not x.requires_grad or not chance(self.prob):
            return x
        return _Whitening.apply(x, self.limit(step), self.grad_scale, self.groups)


class _Whitening(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float, grad_scale: float, groups: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit, ctx.grad_scale, ctx.groups = limit, grad_scale, groups
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        rows_GND = x.reshape(-1, ctx.groups, x.shape[-1] // ctx.groups).transpose(0, 1).float()
        metric, slope_GDD, centred_GND, norm = whitening(rows_GND)
        if x.device.type == "cpu" and metric < ctx.limit:
            return grad, None, None, None
        scale = ctx.grad_scale * grad.float().norm() / (norm + 1e-20) * (metric >= ctx.limit)
        extra_GND = torch.stack([affine(rows_ND, slope_DD) for rows_ND, slope_DD in zip(centred_GND, slope_GDD * scale)])
        return grad + extra_GND.transpose(0, 1).reshape(grad.shape).to(grad.dtype), None, None, None


def whitening(rows_GND: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The metric of :class:`Whiten`, and its gradient as a product: centred rows (G, N, D) times slope (G, D, D), and its norm."""
    groups, _, dim = rows_GND.shape
    centred_GND = rows_GND - rows_GND.mean(1, keepdim=True)
    covariance_GDD = torch.stack([outer(centred_ND, centred_ND) for centred_ND in centred_GND])
    mean = covariance_GDD.diagonal(dim1=1, dim2=2).mean()
    mean_square = covariance_GDD.square().sum() / (groups * dim)
    metric = mean_square / (mean**2 + 1e-20)
    identity_DD = torch.eye(dim, dtype=rows_GND.dtype, device=rows_GND.device)
    slope_GDD = 4 / (groups * dim) / (mean**2 + 1e-20) * (covariance_GDD - (mean_square / (mean + 1e-20)) * identity_DD)
    norm = (torch.bmm(slope_GDD, covariance_GDD) * slope_GDD).sum().clamp(min=0).sqrt()  # of the product, from small matrices
    return metric, slope_GDD, centred_GND, norm


def limit(parameter: Tensor, low: float, high: float, step: int | None, prob: float = 0.6) -> Tensor:
    """``parameter``; where it lies outside [low, high], gradient descent is turned round so that it comes back."""
    if step is None or not chance(prob):
        return parameter
    return _Limit.apply(parameter, low, high)


class _Limit(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        wrong = ((grad > 0) & (x < ctx.low)) | ((grad < 0) & (x > ctx.high))
        return torch.where(wrong, -grad, grad), None, None
