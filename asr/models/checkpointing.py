"""Activation checkpointing: memory saved by computing parts of a model a second time in the backward pass.

Chen et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Checkpointing(nn.Module):
    """Base of a module that can do without the activations of its parts: those that it calls by :meth:`run`."""

    activation_checkpointing = False

    def run(self, part: nn.Module, *arguments: Any) -> Any:
        return checkpointed(part, *arguments) if self.activation_checkpointing else part(*arguments)


def checkpointed(module: nn.Module, *arguments: Any) -> Any:
    """module(*arguments), of whose activations none is kept for the backward pass.

    The second computation draws the random numbers of the first, and what it does to running statistics is taken back.
    """
    if not torch.is_grad_enabled():
        return module(*arguments)
    again = False

    def compute(*arguments: Any) -> Any:
        nonlocal again
        if not again:
            again = True
            return module(*arguments)
        before = [(buffer, buffer.clone()) for buffer in module.buffers()]
        try:
            return module(*arguments)
        finally:  # torch leaves the module by an exception when it has what it needs
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)

    return checkpoint(compute, *arguments, use_reentrant=False)
