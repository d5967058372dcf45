"""Optimizers. Letters: K parameters of one size, stacked; n elements of each."""
from __future__ import annotations

import math
from itertools import groupby
from typing import Annotated, Any, Iterable, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.train.clipping import ClippingConfig, HistoryClipping, NormClipping

Beta = Annotated[float, Field(ge=0, lt=1)]

MIN_RMS = 1.0e-5
"""Parameters smaller than this are updated as if they had this size, so that those initialised to zero can grow."""
MAX_RMS = 3.0
MAX_SCALAR = 10.0
SCALAR_LR = 0.1
"""Parameters of one element have no direction apart from their scale: they get plain Adam with this fraction of lr."""


class ScaledAdam(torch.optim.Optimizer):
    """Adam whose update is proportional to each parameter's size, and which learns that size.

    Yao et al., "Zipformer: a faster and better encoder for automatic speech recognition", arXiv 2310.11230, section 3.5,
    equations (4) to (7). With theta a parameter tensor, r its root mean square and g its gradient:

        m, v  first and second moments of g             (per element)
        n, w  the same of h = g · theta / r             (per tensor: the gradient with respect to r)
        theta -= lr · c · (r · m / (sqrt(v) + eps)  +  scale_lr · theta · n / (sqrt(w) + eps)),
        c = sqrt(1 - beta2^t) / (1 - beta1^t)

    Parameters with the same number of elements are stacked and updated together. A parameter without a gradient counts as
    one whose gradient is zero. State is kept with the first parameter of each stack.
    """

    class Config(BaseConfig):
        type: Literal["scaled_adam"] = "scaled_adam"
        lr: float = Field(default=0.045, gt=0)
        betas: tuple[Beta, Beta] = (0.9, 0.98)
        eps: float = Field(default=1.0e-8, gt=0)
        scale_lr: float = Field(default=0.1, ge=0)
        clipping: ClippingConfig = HistoryClipping.Config()  # type: ignore[valid-type]

    def __init__(self, config: "ScaledAdam.Config", parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(
            list(parameters), {"lr": config.lr, "betas": config.betas, "eps": config.eps, "scale_lr": config.scale_lr}
        )
        self._stacks = [
            (index, list(same_size))
            for index, group in enumerate(self.param_groups)
            for _, same_size in groupby(sorted(group["params"], key=Tensor.numel), key=Tensor.numel)
        ]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None, "ScaledAdam takes no closure"
        for index, parameters in self._stacks:
            group, state = self.param_groups[index], self.state[parameters[0]]
            parameters_Kn = torch.stack([p.reshape(-1) for p in parameters])
            gradients_Kn = torch.stack([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters])
            if not state:
                state["step"] = 0
                state["m"] = torch.zeros_like(parameters_Kn)
                state["v"] = torch.zeros_like(parameters_Kn)
                state["n"] = torch.zeros_like(parameters_Kn[:, :1])
                state["w"] = torch.zeros_like(parameters_Kn[:, :1])
            state["step"] += 1
            move = self._move_scalars if parameters_Kn.shape[1] == 1 else self._move_tensors
            moves_Kn = move(group, state, parameters_Kn, gradients_Kn)
            torch._foreach_add_(parameters, [row.view(p.shape) for row, p in zip(moves_Kn.unbind(), parameters)])

    def _move_tensors(self, group: dict[str, Any], state: dict[str, Any], parameters_Kn: Tensor, gradients_Kn: Tensor) -> Tensor:
        size = parameters_Kn.shape[1]
        rms_K1 = torch.linalg.vector_norm(parameters_Kn, dim=1, keepdim=True).div_(math.sqrt(size))
        floored_K1 = rms_K1.clamp(min=MIN_RMS)
        scale_gradient_K1 = (gradients_Kn * parameters_Kn).sum(dim=1, keepdim=True).div_(floored_K1)
        scale_step_K1 = _adam(group, state, ("n", "w"), scale_gradient_K1).mul_(group["scale_lr"])
        limit = group["scale_lr"] * group["lr"]
        scale_step_K1 = torch.where(rms_K1 > MAX_RMS, scale_step_K1.clamp(max=-limit), scale_step_K1)
        update_Kn = _adam(group, state, ("m", "v"), gradients_Kn).mul_(floored_K1)
        return update_Kn.addcmul_(parameters_Kn, scale_step_K1)

    def _move_scalars(self, group: dict[str, Any], state: dict[str, Any], parameters_K1: Tensor, gradients_K1: Tensor) -> Tensor:
        update_K1 = _adam(group, state, ("m", "v"), gradients_K1).mul_(SCALAR_LR)
        return (parameters_K1 + update_K1).clamp_(-MAX_SCALAR, MAX_SCALAR).sub_(parameters_K1)


def _adam(group: dict[str, Any], state: dict[str, Any], names: tuple[str, str], gradients: Tensor) -> Tensor:
    """Moves the two moments on; returns -lr · c · first / (sqrt(second) + eps)."""
    beta1, beta2 = group["betas"]
    first, second = state[names[0]], state[names[1]]
    first.mul_(beta1).add_(gradients, alpha=1 - beta1)
    second.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
    correction = math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"])
    return second.sqrt().add_(group["eps"]).reciprocal_().mul_(first).mul_(-group["lr"] * correction)


class AdamW(torch.optim.AdamW):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); biases and other vectors do not decay."""

    class Config(BaseConfig):
        type: Literal["adamw"] = "adamw"
        lr: float = Field(default=1.0e-3, gt=0)
        betas: tuple[Beta, Beta] = (0.9, 0.98)
        eps: float = Field(default=1.0e-8, gt=0)
        weight_decay: float = Field(default=0.01, ge=0)
        clipping: ClippingConfig = NormClipping.Config()  # type: ignore[valid-type]

    def __init__(self, config: "AdamW.Config", parameters: Iterable[nn.Parameter]) -> None:
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        super().__init__(
            [group for group in groups if group["params"]],  # type: ignore[arg-type]
            lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay, foreach=True,  # type: ignore[call-arg]
        )


OPTIMIZERS = {"scaled_adam": ScaledAdam, "adamw": AdamW}
OptimizerConfig = one_of(OPTIMIZERS)
