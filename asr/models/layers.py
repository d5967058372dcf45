"""Layers that compute what torch's of the same name do, faster on a CPU.

Measured on an AMD EPYC (AVX-512) at the sizes of a small Conformer: torch's matrix products go to MKL, which takes its AVX2 path
there (or, in torch 1.13, a slower one still), while convolutions go to oneDNN, which takes AVX-512; and torch draws dropout
masks one by one unless the CPU is Intel's.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """``nn.Linear`` whose (B, S, D) input on a CPU goes through oneDNN, as a 1x1 convolution over channels-last memory: nothing is copied."""

    def forward(self, x: Tensor) -> Tensor:
        if not _convolves(x):
            return F.linear(x, self.weight, self.bias)
        image_BDS1 = x.unsqueeze(2).permute(0, 3, 1, 2)
        return F.conv2d(image_BDS1, self.weight[:, :, None, None], self.bias).permute(0, 2, 3, 1).squeeze(2)


def _convolves(x: Tensor) -> bool:
    """Whether torch would give the convolution to oneDNN: it wants several threads or a batch of 16."""
    return (
        x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 3
        and (x.shape[0] >= 16 or torch.get_num_threads() > 1)
        and torch.backends.mkldnn.is_available()
        and not torch.jit.is_tracing() and not torch.jit.is_scripting()
    )


class Dropout(nn.Module):
    """Dropout with a probability rounded to a 256th, so that on a CPU one random number of 64 bits decides about eight values."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(p * 256)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.dropped / 256)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - self.dropped))
