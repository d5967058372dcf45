"""The joiner: logits of the next token, and of its duration, from one encoder frame and one predictor output.

Shape legend: asr/types.py; J is the joiner's dimension, L the number of durations.
"""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.models.layers import Linear

MAX_DURATION = 32
"""Frames. Durations further apart than that are no use to a loss, and every possible one costs a step of its recursion."""


class Joiner(nn.Module):
    """logits = W tanh(P_enc x + P_pred y): Graves et al., "Speech recognition with deep recurrent neural networks", 2013, eq. 15 to 18.

    The projections are separate calls because they are much cheaper before the two are broadcast against each other.
    With durations it is a token-and-duration transducer's (TDT; Xu et al., "Efficient sequence transduction by jointly predicting
    tokens and durations", ICML 2023): behind the V logits of tokens stand L of durations, normalised apart from them.

    With ``blank: sigmoid`` it is a hybrid autoregressive transducer's (HAT; Variani et al., "Hybrid autoregressive transducer", ICASSP
    2020, section 3.1): blank is a Bernoulli variable of its own, P(blank) = sigmoid(b), and a label k has the rest of the
    probability times its share among the labels, (1 - P(blank)) softmax(l)_k. The softmax over b and the log-softmax of l is just that,
    because the latter's exponentials sum to 1: such logits are what ``forward`` gives, and whoever takes their softmax needs to know of
    no factorisation. The log-softmax of labels' logits alone, in any joiner, is the distribution that an internal language model has.
    """

    class Config(BaseConfig):
        """blank: one softmax over blank and labels, or blank by itself, as a sigmoid (HAT).
        durations: by how many frames a token may advance, for a token-and-duration transducer; empty for the usual one.
        """

        dim: int = Field(default=256, ge=1)
        blank: Literal["softmax", "sigmoid"] = "softmax"
        durations: tuple[int, ...] = Field(default=(), max_length=32)

        @field_validator("durations")
        @classmethod
        def _durations_are_a_set_that_advances(cls, durations: tuple[int, ...]) -> tuple[int, ...]:
            if durations and (durations[0] < 0 or durations[-1] < 1 or any(a >= b for a, b in zip(durations, durations[1:]))):
                raise ValueError("give frames to advance in increasing order, none negative, one positive at least, like [0, 1, 2, 3, 4]")
            if durations and durations[-1] > MAX_DURATION:
                raise ValueError(f"a token advances by at most {MAX_DURATION} frames")
            return durations

    def __init__(self, config: "Joiner.Config", encoder_dim: int, predictor_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.durations = config.durations
        self.blank_apart = config.blank == "sigmoid"
        self.encoder_proj = Linear(encoder_dim, config.dim)
        self.predictor_proj = Linear(predictor_dim, config.dim)
        self.output_linear = Linear(config.dim, vocab_size + len(config.durations))

    def project_encoder(self, frames: Tensor) -> Tensor:
        """(..., D) encoder frames to (..., J)."""
        return self.encoder_proj(frames)

    def project_predictor(self, outputs: Tensor) -> Tensor:
        """(..., D) predictor outputs to (..., J)."""
        return self.predictor_proj(outputs)

    def forward(self, encoder: Tensor, predictor: Tensor) -> Tensor:
        """Logits (..., V + L) of two projected inputs (..., J), broadcast against each other."""
        logits = self.output_linear(torch.tanh(encoder + predictor))
        if not self.blank_apart:
            return logits
        wide = logits if logits.dtype == torch.float64 else logits.float()
        tokens, durations = self.split(wide)
        return torch.cat([tokens[..., :1], tokens[..., 1:].log_softmax(-1), durations], dim=-1)

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Views of logits (..., V + L): those of tokens (..., V), blank first, and those of ``durations`` (..., L)."""
        vocab_size = self.output_linear.out_features - len(self.durations)
        return logits[..., :vocab_size], logits[..., vocab_size:]
