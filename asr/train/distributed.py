"""The processes that train together, as ``torchrun`` starts them; one process alone is a group of one.

Gradients are summed by hand rather than by DistributedDataParallel: the sum of a step is then the same however its micro-batches
are spread over processes, and a process that got none (at the end of an epoch), skips one or splits one does not stall the others.
"""
from __future__ import annotations

import os
from typing import Any, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Ranks:
    """``rank`` of ``size`` processes. ``main`` is the one that writes files."""

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0) -> None:
        self.rank, self.size, self.local = rank, size, local

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Joins the group that torchrun's RANK, WORLD_SIZE and LOCAL_RANK describe, or is alone."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Leaves every process with the sum of all processes' gradients; an absent gradient becomes zero."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.size > 1:
            flat = torch.cat([p.grad.reshape(-1) for p in parameters])  # type: ignore[union-attr]
            dist.all_reduce(flat)
            for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters])):
                parameter.grad = gradient.view(parameter.shape)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank. Slow: for what happens rarely."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def average_buffers(self, module: nn.Module) -> None:
        """Makes running statistics, which each process gathers from its own batches, the same everywhere."""
        if self.size > 1:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer.div_(self.size)

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()
