"""A two-layer perceptron over many rows whose hidden layer never lies in memory as a whole.

In the frontend that layer is the largest of all activations by far: three times the channels, for every frequency band.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from asr.models.zipformer.activations import Swoosh
from asr.models.zipformer.dense import BLOCK, affine, autocast_dtype, outer
from asr.models.zipformer.gradients import Limits, Push


def perceptron(x: Tensor, first: nn.Linear, second: nn.Linear, kind: Swoosh, limits: Limits | None) -> Tensor:
    """second(swoosh(first(x))) for x (..., I). limits: those of a balancer on the hidden layer, where it acts.

    Works block by block; the backward pass computes the hidden layer again.
    """
    dtype = autocast_dtype(x)
    arguments = [t.to(dtype) for t in (x, first.weight, first.bias, second.weight, second.bias)]
    with torch.autocast(x.device.type, enabled=False):
        return _Perceptron.apply(*arguments, kind, limits)


class _Perceptron(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, kind: Swoosh, limits: Limits | None
    ) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        out_NO = x.new_empty(len(x_NI), len(weight2))
        total = torch.zeros(2, len(weight1), dtype=torch.float32, device=x.device)
        for block_NI, out in zip(_blocks(x_NI), _blocks(out_NO)):
            hidden = affine(block_NI, weight1, bias1)
            if limits is not None:
                total += torch.stack((hidden.sum(0), hidden.square().sum(0)))
            out.copy_(affine(kind.value(hidden), weight2, bias2))
        ctx.save_for_backward(x_NI, weight1, bias1, weight2, total / len(x_NI))
        ctx.shape, ctx.kind, ctx.limits = x.shape, kind, limits
        return out_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, weight1, bias1, weight2, moments = ctx.saved_tensors
        push = None if ctx.limits is None else Push.of(moments[0], moments[1], ctx.limits)
        grad_NO = grad.reshape(-1, grad.shape[-1])
        x_grad = torch.empty_like(x_NI)
        weight1_grad, bias1_grad, weight2_grad = torch.zeros_like(weight1), torch.zeros_like(bias1), torch.zeros_like(weight2)
        for block_NI, block_NO, out in zip(_blocks(x_NI), _blocks(grad_NO), _blocks(x_grad)):
            hidden = affine(block_NI, weight1, bias1)
            weight2_grad += outer(block_NO, ctx.kind.value(hidden))
            hidden_grad = ctx.kind.descent(hidden, affine(block_NO, weight2.t()))
            if push is not None:
                hidden_grad = push.applied(hidden_grad, hidden)
            weight1_grad += outer(hidden_grad, block_NI)
            bias1_grad += hidden_grad.sum(0)
            out.copy_(affine(hidden_grad, weight1.t()))
        return x_grad.view(ctx.shape), weight1_grad, bias1_grad, weight2_grad, grad_NO.sum(0), None, None


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.split(BLOCK) if rows.device.type == "cpu" else (rows,)
