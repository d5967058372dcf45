"""Predictors in the form searches step them, and encoder frames in the form they look them up.

Shape legend: asr/types.py; C counts context tokens, J is the joiner's dimension.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.models.predictors import NOTHING, State, StatelessPredictor
from asr.types import BLANK


def stepping(predictor: Any) -> Any:
    """Something with the ``start`` and ``step`` of ``predictor``, of the same function, in its fastest form for fixed weights."""
    return StatelessTables(predictor) if isinstance(predictor, StatelessPredictor) else predictor


class StatelessTables:
    """A stateless predictor as sums of table rows: its convolution is linear, so each context position adds a row that depends
    on the token there alone, relu(sum over c of table_c[token_c]). NOTHING's row, the last, is zero.

    Reads the weights once: build a new one when they change.
    """

    def __init__(self, predictor: StatelessPredictor) -> None:
        self.context_size = predictor.context_size
        embedding_VD = predictor.embedding.weight.detach()
        if predictor.conv is None:
            tables_CVD = embedding_VD.unsqueeze(0)
        else:
            conv = predictor.conv
            taps = conv.weight.detach().split(1, dim=2)
            tables_CVD = torch.stack([F.conv1d(embedding_VD.unsqueeze(2), tap, groups=conv.groups).squeeze(2) for tap in taps])
        self.tables_CVD = F.pad(tables_CVD, (0, 0, 0, 1))

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        context_NC = torch.full((n, self.context_size), NOTHING, dtype=torch.int64, device=device)
        context_NC[:, -1] = BLANK
        return self.outputs(context_NC), (context_NC,)

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        context_NC = torch.cat([state[0][:, 1:], tokens_N.unsqueeze(1)], dim=1)
        return self.outputs(context_NC), (context_NC,)

    def outputs(self, context_NC: Tensor) -> Tensor:
        """(N, D) outputs after the last C tokens of N hypotheses, NOTHING before the start."""
        rows_NC = torch.where(context_NC == NOTHING, self.tables_CVD.shape[1] - 1, context_NC)
        out_ND = self.tables_CVD[0].index_select(0, rows_NC[:, 0])
        for c in range(1, self.context_size):
            out_ND += self.tables_CVD[c].index_select(0, rows_NC[:, c])
        return out_ND.relu_()


class Frames:
    """Encoder frames, projected for the joiner: all at once where a search visits all, else each when it is visited."""

    def __init__(self, joiner: Any, frames_BSD: Tensor, visits_all: bool) -> None:
        self.project = None if visits_all else joiner.project_encoder
        self.frames_BSX = joiner.project_encoder(frames_BSD) if visits_all else frames_BSD

    def at(self, rows: Tensor, frames: Tensor) -> Tensor:
        """(..., J) of utterances ``rows`` at ``frames``, both (...) and broadcast against each other."""
        found = self.frames_BSX[rows, frames]
        return found if self.project is None else self.project(found)
