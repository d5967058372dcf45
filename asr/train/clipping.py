"""Gradient clipping: how much of a gradient to keep, judged by its norm."""
from __future__ import annotations

import math
import statistics
from typing import Any, Literal, Sequence

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig
from asr.config import one_of


class HistoryClipping:
    """Clips at ``scale`` times the median of the last ``window`` norms, so no threshold has to be chosen by hand.

    The norm weighs each parameter's gradient by the parameter's root mean square: it measures what a relative change of the
    parameters would do, which is how ScaledAdam moves them (Yao et al., arXiv 2310.11230). Norms enter the history unclipped;
    nothing is clipped before ``FEWEST`` of them are known.
    """

    FEWEST = 10

    class Config(BaseConfig):
        type: Literal["history"] = "history"
        scale: float = Field(default=2.0, gt=0)
        window: int = Field(default=100, ge=10)

    def __init__(self, config: "HistoryClipping.Config") -> None:
        self.config = config
        self._norms: list[float] = []

    def norm(self, parameters: Sequence[Tensor]) -> Tensor:
        """Scalar norm of the gradients of ``parameters``, all of which have one."""
        sizes = torch.stack(torch._foreach_norm([p.detach() for p in parameters]))  # type: ignore[arg-type]
        roots = torch.tensor([math.sqrt(p.numel()) for p in parameters], device=sizes.device)
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(_gradients(parameters))) * (sizes / roots))

    def coefficient(self, norm: float) -> float:
        """What to multiply a gradient of this finite norm by, at most 1; remembers the norm."""
        known = self._norms
        allowed = self.config.scale * statistics.median(known) if len(known) >= self.FEWEST else math.inf
        self._norms = [*known, norm][-self.config.window:]
        return min(1.0, allowed / norm) if norm > 0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        return {"norms": list(self._norms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._norms = list(state["norms"])


class NormClipping:
    """Clips gradients to a fixed Euclidean norm (Pascanu et al. 2013)."""

    class Config(BaseConfig):
        type: Literal["norm"] = "norm"
        max_norm: float = Field(default=5.0, gt=0)

    def __init__(self, config: "NormClipping.Config") -> None:
        self.config = config

    def norm(self, parameters: Sequence[Tensor]) -> Tensor:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(_gradients(parameters))))

    def coefficient(self, norm: float) -> float:
        return min(1.0, self.config.max_norm / norm) if norm > 0 else 1.0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state, state


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters]  # type: ignore[misc]


CLIPPINGS = {"history": HistoryClipping, "norm": NormClipping}
ClippingConfig = one_of(CLIPPINGS)
