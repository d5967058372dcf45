"""The convolution module of Zipformer (Yao et al. 2023, section 3.1)."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.models.memory import Memory
from asr.models.zipformer.activations import SWOOSH_R, scaled_linear, swoosh_linear
from asr.models.zipformer.dense import linear
from asr.models.zipformer.depthwise import depthwise_1d
from asr.models.zipformer.gradients import Balancer, Whiten
from asr.models.zipformer.schedule import Schedule


class ChunkCausalConv(nn.Module):
    """A depthwise convolution that sees its chunk and what lies before it, but not what comes after.

    A causal convolution of half the width plus one of full width inside each chunk; the latter lacks input near the
    chunk's edges, which learned factors by position make up for.
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.causal = nn.Conv1d(dim, dim, (kernel + 1) // 2, groups=dim)
        self.within = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.left_edge = nn.Parameter(torch.zeros(kernel, dim))
        self.right_edge = nn.Parameter(torch.zeros(kernel, dim))
        with torch.no_grad():
            assert self.causal.bias is not None
            self.causal.bias.uniform_(-0.1, 0.1)

    def forward(self, x_BTD: Tensor, past_BLD: Tensor, lens_B: Tensor, chunk: int | None) -> Tensor:
        """past_BLD: the L = kernel // 2 frames before x. chunk: frames of a chunk; None: the utterance is one."""
        batch, time, dim = x_BTD.shape
        causal = depthwise_1d(torch.cat((past_BLD, x_BTD), dim=1), self.causal.weight, self.causal.bias, 0)
        if chunk is None:
            within = depthwise_1d(x_BTD, self.within.weight, self.within.bias, self.kernel // 2)
            return torch.addcmul(causal, within, self._utterance_scale(lens_B, time))
        chunks = F.pad(x_BTD, (0, 0, 0, -time % chunk)).view(-1, chunk, dim)
        within = depthwise_1d(chunks, self.within.weight, self.within.bias, self.kernel // 2) * self._chunk_scale(chunk)
        return causal + within.reshape(batch, -1, dim)[:, :time]

    def _chunk_scale(self, chunk: int) -> Tensor:
        """(chunk, D)"""
        missing = max(0, chunk - self.kernel)
        left = F.pad(self.left_edge[:chunk], (0, 0, 0, missing))
        return 1 + left + F.pad(self.right_edge[-chunk:], (0, 0, missing, 0))

    def _utterance_scale(self, lens_B: Tensor, time: int) -> Tensor:
        """(B, T, D): each utterance has its own right edge, wherever its padding ends."""
        t = torch.arange(time, device=lens_B.device)
        left = F.pad(self.left_edge[:time], (0, 0, 0, max(0, time - self.kernel)))
        from_edge_BT = t - lens_B.unsqueeze(1) + self.kernel
        beyond = (from_edge_BT < 0) | (from_edge_BT >= self.kernel)
        right = F.pad(self.right_edge, (0, 0, 0, 1))[from_edge_BT.masked_fill(beyond, self.kernel)]
        return 1 + left + right


class ConvModule(nn.Module):
    """Gated linear unit, depthwise convolution, SwooshR, linear."""

    def __init__(self, dim: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * dim)
        self.padding = kernel // 2
        self.conv = ChunkCausalConv(dim, kernel) if causal else nn.Conv1d(dim, dim, kernel, groups=dim)
        self.out_proj = scaled_linear(dim, dim, 0.05)
        self.balance_gate = Balancer(
            min_positive=Schedule((0, 0.05), (8000, 0.025)), max_positive=1.0,
            min_abs=1.5, max_abs=Schedule((0, 5.0), (8000, 10.0)),
        )
        self.balance_out = Balancer(
            min_positive=Schedule((0, 0.1), (8000, 0.05)), max_positive=1.0,
            min_abs=Schedule((0, 0.2), (20000, 0.5)), max_abs=10.0,
        )
        self.whiten = Whiten(7.5)

    def forward(
        self, x_BTD: Tensor, lens_B: Tensor, pad_BT: Tensor | None, chunk: int | None, memory: Memory | None, name: str,
        step: int | None,
    ) -> Tensor:
        """pad_BT: True beyond the utterance. name: of the frames before x in ``memory``."""
        hidden, gate = linear(x_BTD, self.in_proj).chunk(2, dim=-1)
        x = hidden * self.balance_gate(gate, step).sigmoid()
        if pad_BT is not None:
            x = x.masked_fill(pad_BT.unsqueeze(-1), 0.0)
        if isinstance(self.conv, ChunkCausalConv):
            if memory is None:
                past = x.new_zeros(x.shape[0], self.conv.kernel // 2, x.shape[2])
            else:
                past = memory.past[name]
                memory.join(name, x)
            x = self.conv(x, past, lens_B, chunk)
        else:
            x = depthwise_1d(x, self.conv.weight, self.conv.bias, self.padding)
        x = self.whiten(self.balance_out(x, step), step)
        return swoosh_linear(x, self.out_proj, SWOOSH_R)
