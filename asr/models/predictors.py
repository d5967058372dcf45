"""Predictors: what the transducer knows of the tokens emitted so far.

Every predictor offers a training form over whole transcripts and a step form for searches, of the same function:

    forward(tokens_BU) -> out_B(U+1)D           row u has seen the first u tokens; row 0 nothing but blank
    start(n, device) -> (out_ND, state)         N hypotheses that have emitted nothing
    step(tokens_N, state) -> (out_ND, state)    the same after one more (non-blank) token each

The state is a tuple of tensors with hypotheses as rows, see :func:`select`.
Shape legend: asr/types.py; C is the number of context tokens, L the number of LSTM layers.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.models.layers import Dropout
from asr.types import BLANK

State = tuple[Tensor, ...]

NOTHING = -1
"""Stands in a context for a position before the start of the utterance."""


def select(state: State, rows: Tensor) -> State:
    """The state of the hypotheses ``rows`` (int64 indices, repeats allowed), in that order."""
    return tuple(part.index_select(0, rows) for part in state)


def concatenate(states: list[State]) -> State:
    """One state with the hypotheses of all ``states``, in order."""
    return tuple(torch.cat(parts) for parts in zip(*states))


class StatelessPredictor(nn.Module):
    """Embedding and a grouped convolution over the last ``context_size`` tokens.

    Ghodsi et al., "RNN-Transducer with stateless prediction network", ICASSP 2020, with the convolution of icefall's
    recipes: groups of four channels, then ReLU. Positions before the first blank embed to zero.
    State: (context_NC,), the last C tokens.
    """

    class Config(BaseConfig):
        type: Literal["stateless"] = "stateless"
        dim: int = Field(default=256, ge=4, multiple_of=4)
        context_size: int = Field(default=2, ge=1)

    def __init__(self, config: "StatelessPredictor.Config", vocab_size: int) -> None:
        super().__init__()
        self.output_dim = config.dim
        self.context_size = config.context_size
        self.embedding = nn.Embedding(vocab_size, config.dim)
        self.conv: nn.Conv1d | None = None
        if config.context_size > 1:
            self.conv = nn.Conv1d(config.dim, config.dim, config.context_size, groups=config.dim // 4, bias=False)

    def forward(self, tokens_BU: Tensor) -> Tensor:
        return self._output(F.pad(F.pad(tokens_BU, (1, 0), value=BLANK), (self.context_size - 1, 0), value=NOTHING))

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        context_NC = torch.full((n, self.context_size), NOTHING, dtype=torch.int64, device=device)
        context_NC[:, -1] = BLANK
        return self._output(context_NC)[:, 0], (context_NC,)

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        (context_NC,) = state
        context_NC = torch.cat([context_NC[:, 1:], tokens_N.unsqueeze(1)], dim=1)
        return self._output(context_NC)[:, 0], (context_NC,)

    def _output(self, tokens_NK: Tensor) -> Tensor:
        """(N, K) tokens to (N, K - C + 1, D): one row per window of C tokens."""
        embedded_NKD = self.embedding(tokens_NK.clamp(min=0)) * (tokens_NK != NOTHING).unsqueeze(-1)
        if self.conv is not None:
            embedded_NKD = self.conv(embedded_NKD.transpose(1, 2)).transpose(1, 2)
        return F.relu(embedded_NKD)


class LstmPredictor(nn.Module):
    """Embedding and LSTM over the whole history: Graves, "Sequence Transduction with RNNs", 2012, section 2.2.

    State: (hidden_NLD, cell_NLD).
    """

    class Config(BaseConfig):
        type: Literal["lstm"] = "lstm"
        dim: int = Field(default=256, ge=1)
        layers: int = Field(default=1, ge=1)
        dropout: float = Field(default=0.0, ge=0, lt=1)

    def __init__(self, config: "LstmPredictor.Config", vocab_size: int) -> None:
        super().__init__()
        self.output_dim = config.dim
        self.embedding = nn.Embedding(vocab_size, config.dim)
        self.dropout = Dropout(config.dropout)
        self.lstm = nn.LSTM(
            config.dim, config.dim, config.layers, batch_first=True, dropout=config.dropout if config.layers > 1 else 0.0
        )

    def forward(self, tokens_BU: Tensor) -> Tensor:
        embedded_BUD = self.dropout(self.embedding(F.pad(tokens_BU, (1, 0), value=BLANK)))
        return self.lstm(embedded_BUD)[0]

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        zeros_NLD = self.embedding.weight.new_zeros(n, self.lstm.num_layers, self.output_dim, device=device)
        return self.step(torch.full((n,), BLANK, dtype=torch.int64, device=device), (zeros_NLD, zeros_NLD))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_LND, cell_LND = (part.transpose(0, 1).contiguous() for part in state)
        out_N1D, (hidden_LND, cell_LND) = self.lstm(self.embedding(tokens_N).unsqueeze(1), (hidden_LND, cell_LND))
        return out_N1D[:, 0], (hidden_LND.transpose(0, 1), cell_LND.transpose(0, 1))


PREDICTORS: dict[str, Any] = {"stateless": StatelessPredictor, "lstm": LstmPredictor}
PredictorConfig = one_of(PREDICTORS)
