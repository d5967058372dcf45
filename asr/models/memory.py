"""What a layer remembers between the chunks of a stream."""
from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor


class Memory:
    """The left context of one layer: tensors (B, L, D) by name, each of its own length L.

    A forward pass joins them with the chunk's frames and leaves what the next chunk needs in ``following``.
    """

    def __init__(self, past: Mapping[str, Tensor]) -> None:
        self.past = past
        self.following: dict[str, Tensor] = {}

    def join(self, name: str, x_BTD: Tensor) -> Tensor:
        past_BLD = self.past[name]
        joined = torch.cat((past_BLD, x_BTD), dim=1)
        self.following[name] = joined[:, joined.shape[1] - past_BLD.shape[1] :]
        return joined


def join(memory: Memory | None, name: str, x_BTD: Tensor) -> Tensor:
    """x after what is remembered under ``name``; x itself where a whole utterance is computed at once."""
    return x_BTD if memory is None else memory.join(name, x_BTD)
