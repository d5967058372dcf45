"""The joiner: logits of the next token from one encoder frame and one predictor output.

Shape legend: asr/types.py; J is the joiner's dimension.
"""
from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.models.layers import Linear


class Joiner(nn.Module):
    """logits = W tanh(P_enc x + P_pred y): Graves et al., "Speech recognition with deep recurrent neural networks", 2013, eq. 15 to 18.

    The projections are separate calls because they are much cheaper before the two are broadcast against each other.
    """

    class Config(BaseConfig):
        dim: int = Field(default=256, ge=1)

    def __init__(self, config: "Joiner.Config", encoder_dim: int, predictor_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.encoder_proj = Linear(encoder_dim, config.dim)
        self.predictor_proj = Linear(predictor_dim, config.dim)
        self.output_linear = Linear(config.dim, vocab_size)

    def project_encoder(self, frames: Tensor) -> Tensor:
        """(..., D) encoder frames to (..., J)."""
        return self.encoder_proj(frames)

    def project_predictor(self, outputs: Tensor) -> Tensor:
        """(..., D) predictor outputs to (..., J)."""
        return self.predictor_proj(outputs)

    def forward(self, encoder: Tensor, predictor: Tensor) -> Tensor:
        """Logits (..., V) of two projected inputs (..., J), broadcast against each other."""
        return self.output_linear(torch.tanh(encoder + predictor))
