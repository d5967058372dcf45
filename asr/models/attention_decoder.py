"""The attention decoder: a Transformer that says a whole transcript's probability, token by token, from all frames of the encoder.

A head of the model beside the transducer, for second passes: Vaswani et al., "Attention is all you need", 2017; trained together with
the other heads as in Kim et al., "Joint CTC-attention based end-to-end speech recognition using multi-task learning", ICASSP 2017.
Blank, which no transcript contains, stands for its border: as input it begins one, as output it ends one, as in the language models.
Shape legend: asr/types.py; P paths of each utterance, N = B * P rows, an utterance's one after the other; H attention heads, E channels
of one.
"""
from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.models.layers import Dropout, Linear
from asr.models.transformer import FeedForward, RotaryAttention, RotaryPositions, attended
from asr.types import BLANK, EncoderOut


class AttentionDecoder(nn.Module):
    class Config(BaseConfig):
        type: Literal["transformer"] = "transformer"
        dim: int = Field(default=256, ge=4)
        layers: int = Field(default=3, ge=1)
        heads: int = Field(default=4, ge=1)
        feedforward: int = Field(default=1024, ge=1)
        dropout: float = Field(default=0.1, ge=0, lt=1)

        @model_validator(mode="after")
        def _heads_of_even_width(self) -> "AttentionDecoder.Config":
            if self.dim % (2 * self.heads):
                raise ValueError(f"dim {self.dim} must be a multiple of twice the {self.heads} heads")
            return self

    def __init__(self, config: "AttentionDecoder.Config", encoder_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.dim)
        self.dropout = Dropout(config.dropout)
        self.positions = RotaryPositions(config.dim, config.dim // config.heads)
        self.layers = nn.ModuleList([DecoderLayer(config, encoder_dim) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.dim)
        self.output_linear = Linear(config.dim, vocab_size)

    def forward(self, tokens_NU: Tensor, encoder_out: EncoderOut) -> Tensor:
        """Logits (N, U + 1, V): row u has seen the first u tokens; BLANK's is that of the end. N is B, or a multiple of it."""
        x_NUD = self.dropout(self.embedding(F.pad(tokens_NU, (1, 0), value=BLANK)))
        rows = x_NUD.shape[1]
        seen_1UU = torch.ones(1, rows, rows, dtype=torch.bool, device=x_NUD.device).tril()
        positions = self.positions(rows, rows, x_NUD.dtype)
        frames_BSD = encoder_out.frames_BSD
        valid_BS = torch.arange(frames_BSD.shape[1], device=frames_BSD.device) < encoder_out.lens_B.unsqueeze(1)
        frames_BSD = frames_BSD.masked_fill(~valid_BS.unsqueeze(2), 0.0)  # beyond an utterance there may be anything
        for layer in self.layers:
            x_NUD = layer(x_NUD, positions, seen_1UU, frames_BSD, valid_BS)
        return self.output_linear(self.norm(x_NUD))

    def log_probs(self, tokens_NU: Tensor, lens_N: Tensor, encoder_out: EncoderOut) -> Tensor:
        """(N,) log-probabilities of token sequences padded with BLANK, their ends included."""
        labels_NU = F.pad(tokens_NU, (0, 1), value=BLANK)
        log_probs_NUV = self(tokens_NU, encoder_out).float().log_softmax(-1)
        each_NU = log_probs_NUV.gather(2, labels_NU.unsqueeze(2)).squeeze(2)
        return each_NU.masked_fill(torch.arange(each_NU.shape[1], device=each_NU.device) > lens_N.unsqueeze(1), 0.0).sum(1)


class DecoderLayer(nn.Module):
    """Attention to the tokens so far, attention to the encoder's frames, and a feed-forward module, each residual."""

    def __init__(self, config: AttentionDecoder.Config, encoder_dim: int) -> None:
        super().__init__()
        self.attention = RotaryAttention(config.dim, config.heads, config.dropout)
        self.source_attention = SourceAttention(config.dim, encoder_dim, config.heads, config.dropout)
        self.feedforward = FeedForward(config.dim, config.feedforward, config.dropout)

    def forward(self, x_NUD: Tensor, positions: Tensor, seen_1UU: Tensor, frames_BSD: Tensor, valid_BS: Tensor) -> Tensor:
        x_NUD = x_NUD + self.attention(x_NUD, positions, seen_1UU)
        x_NUD = x_NUD + self.source_attention(x_NUD, frames_BSD, valid_BS)
        return x_NUD + self.feedforward(x_NUD)


class SourceAttention(nn.Module):
    """Multi-head attention to encoder frames. The paths of an utterance ask together, so that its frames are there only once."""

    def __init__(self, dim: int, encoder_dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = Linear(dim, dim)
        self.key_value = Linear(encoder_dim, 2 * dim)
        self.output = Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_NUD: Tensor, frames_BSD: Tensor, valid_BS: Tensor) -> Tensor:
        batch, frames, _ = frames_BSD.shape
        head_dim = x_NUD.shape[2] // self.heads
        query_BHQE = self.query(self.norm(x_NUD)).view(batch, -1, self.heads, head_dim).transpose(1, 2)
        key_BHSE, value_BHSE = self.key_value(frames_BSD).view(batch, frames, 2, self.heads, head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        scores_BHQS = (query_BHQE / math.sqrt(head_dim)) @ key_BHSE.transpose(-2, -1)
        mixed_BQD = attended(scores_BHQS, value_BHSE, valid_BS.unsqueeze(1), self.dropout)
        return self.dropout(self.output(mixed_BQD)).view_as(x_NUD)
