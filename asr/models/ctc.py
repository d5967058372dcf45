"""The CTC head: a linear layer on the encoder's output. Graves et al., "Connectionist temporal classification", ICML 2006."""
from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.models.layers import Dropout, Linear


class CtcHead(nn.Module):
    class Config(BaseConfig):
        dropout: float = Field(default=0.1, ge=0, lt=1)

    def __init__(self, config: "CtcHead.Config", encoder_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.output_linear = Linear(encoder_dim, vocab_size)

    def forward(self, frames_BSD: Tensor) -> Tensor:
        """Log-probabilities (B, S, V), float32 whatever the input's dtype."""
        return self.output_linear(self.dropout(frames_BSD)).float().log_softmax(dim=-1)
