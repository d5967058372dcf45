"""An average over past training steps that is the same however a step's batch is cut into pieces or spread over processes."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor, nn


class RunningAverage(nn.Module):
    """mean = decay * mean + (1 - decay) * (mean over all rows that were added in a step).

    A loss adds rows in its forward pass. ``asr/train/step.py`` forgets those of attempts that did not count, and ends the step.
    The mean is saved with the loss's parameters.
    """

    mean_V: Tensor
    _sum_V: Tensor
    _count: Tensor

    def __init__(self, start_V: Tensor, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean_V", start_V)
        self.register_buffer("_sum_V", torch.zeros_like(start_V), persistent=False)
        self.register_buffer("_count", start_V.new_zeros(1), persistent=False)

    @torch.no_grad()
    def add(self, rows_NV: Tensor) -> None:
        self._sum_V += rows_NV.sum(dim=0)
        self._count += len(rows_NV)

    def forget(self) -> None:
        """Drops what was added since the last step ended."""
        self._sum_V.zero_()
        self._count.zero_()

    def end_step(self, sum_over_processes: Callable[[Tensor], Tensor]) -> None:
        total = sum_over_processes(torch.cat([self._sum_V, self._count]))
        if total[-1] > 0:
            self.mean_V.lerp_(total[:-1] / total[-1], 1.0 - self.decay)
        self.forget()
