"""Predictors: what the transducer knows of the tokens emitted so far.

Every predictor offers a training form over whole transcripts and a step form for searches, of the same function:

    forward(tokens_BU) -> out_B(U+1)D           row u has seen the first u tokens; row 0 nothing but blank
    start(n, device) -> (out_ND, state)         N hypotheses that have emitted nothing
    step(tokens_N, state) -> (out_ND, state)    the same after one more (non-blank) token each

The state is a tuple of tensors with hypotheses as rows, see :func:`select`.
Shape legend: asr/types.py; C is the number of context tokens, L the number of layers, P remembered tokens (C - 1).
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
from asr.models.memory import Memory
from asr.models.transformer import ATTENTIONS, POSITIONS, FeedForward, Positions
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


class TransformerPredictor(nn.Module):
    """Embedding and self-attention over the history: the label encoder of Zhang et al., "Transformer Transducer", ICASSP 2020.

    In each layer a token attends to the last ``context`` tokens, itself included; L layers see L (C - 1) + 1 of them.
    State: (history_NLPE, seen_N): each layer's keys and values of the last C - 1 tokens, E = 2D channels, and how many of these there
    are yet.
    """

    class Config(BaseConfig):
        type: Literal["transformer"] = "transformer"
        dim: int = Field(default=256, ge=4)
        layers: int = Field(default=2, ge=1)
        heads: int = Field(default=4, ge=1)
        feedforward: int = Field(default=1024, ge=1)
        positions: Positions = "rotary"
        context: int = Field(default=8, ge=1)
        dropout: float = Field(default=0.1, ge=0, lt=1)

    def __init__(self, config: "TransformerPredictor.Config", vocab_size: int) -> None:
        super().__init__()
        if config.dim % (2 * config.heads):
            raise ValueError(f"transformer predictor: dim {config.dim} must be a multiple of twice the {config.heads} heads")
        self.output_dim = config.dim
        self.context = config.context
        self.embedding = nn.Embedding(vocab_size, config.dim)
        self.dropout = Dropout(config.dropout)
        self.positions = POSITIONS[config.positions](config.dim, config.dim // config.heads)
        self.layers = nn.ModuleList([TransformerLayer(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, tokens_BU: Tensor) -> Tensor:
        x_BUD = self.dropout(self.embedding(F.pad(tokens_BU, (1, 0), value=BLANK)))
        rows = x_BUD.shape[1]
        position_U = torch.arange(rows, device=x_BUD.device)
        back_UU = position_U.unsqueeze(1) - position_U
        attended_1UU = ((back_UU >= 0) & (back_UU < self.context)).unsqueeze(0)
        positions = self.positions(rows, rows, x_BUD.dtype)
        for layer in self.layers:
            x_BUD = layer(x_BUD, positions, attended_1UU, None)
        return self.norm(x_BUD)

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        history_NLPE = self.embedding.weight.new_zeros(n, len(self.layers), self.context - 1, 2 * self.output_dim, device=device)
        tokens_N = torch.full((n,), BLANK, dtype=torch.int64, device=device)
        return self.step(tokens_N, (history_NLPE, torch.zeros_like(tokens_N)))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        history_NLPE, seen_N = state
        x_N1D = self.embedding(tokens_N).unsqueeze(1)
        back_C = torch.arange(self.context - 1, -1, -1, device=x_N1D.device)
        attended_N1C = (back_C <= seen_N.unsqueeze(1)).unsqueeze(1)
        positions = self.positions(1, self.context, x_N1D.dtype)
        memories = [Memory({"keys_values": layer_NPE}) for layer_NPE in history_NLPE.unbind(1)]
        for layer, memory in zip(self.layers, memories):
            x_N1D = layer(x_N1D, positions, attended_N1C, memory)
        history_NLPE = torch.stack([memory.following["keys_values"] for memory in memories], dim=1)
        return self.norm(x_N1D)[:, 0], (history_NLPE, (seen_N + 1).clamp(max=self.context - 1))


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward module, each residual."""

    def __init__(self, config: TransformerPredictor.Config) -> None:
        super().__init__()
        self.attention = ATTENTIONS[config.positions](config.dim, config.heads, config.dropout)
        self.feedforward = FeedForward(config.dim, config.feedforward, config.dropout)

    def forward(self, x_BQD: Tensor, positions: Tensor, attended_BQK: Tensor, memory: Memory | None) -> Tensor:
        x_BQD = x_BQD + self.attention(x_BQD, positions, attended_BQK, memory)
        return x_BQD + self.feedforward(x_BQD)


PREDICTORS: dict[str, Any] = {"stateless": StatelessPredictor, "lstm": LstmPredictor, "transformer": TransformerPredictor}
PredictorConfig = one_of(PREDICTORS)
