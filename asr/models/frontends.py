"""Frontends: what stands between discrete units and the encoder. Shape legend: asr/types.py.

A frame of input is Q unit ids (codebooks), or, where units stand beside other features, C numbers and then Q ids in one float tensor
(``Beside``, asr/data/beside.py). A frontend looks at each frame by itself, so streams pass it in pieces of any size.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.models.layers import Linear
from asr.models.subsampling import TYPICAL_MEAN, TYPICAL_STD
from asr.types import UnitSpace


class UnitEmbedding(nn.Module):
    """A vector per frame of units: the embeddings of its codebooks added up, side by side and projected, or weighed by attention.

    Attention over codebooks, the layers of a self-supervised model for example: Mousavi et al., "How should we extract discrete audio
    tokens from self-supervised models?", Interspeech 2024. One table holds all codebooks, each with one id more than its
    units: that of a masked unit (UnitAugment). Padding (-1) gives zeros.
    """

    class Config(BaseConfig):
        """combine: what is made of the codebooks. dim: of the output.
        codebook_dim: of each codebook's embedding under ``concatenate``; with many codebooks (dMel has one per channel), a few are enough.
        """

        type: Literal["embedding"] = "embedding"
        combine: Literal["sum", "concatenate", "attention"] = "sum"
        dim: int = Field(default=256, ge=1)
        codebook_dim: int = Field(default=16, ge=1)

    def __init__(self, config: "UnitEmbedding.Config", units: UnitSpace) -> None:
        super().__init__()
        self.config, self.units, self.output_dim = config, units, config.dim
        dim = config.codebook_dim if config.combine == "concatenate" else config.dim
        self.table = nn.Embedding(units.codebooks * (units.vocabulary + 1), dim)
        if config.combine == "sum":
            nn.init.normal_(self.table.weight, std=units.codebooks**-0.5)
        self.register_buffer("first_Q", torch.arange(units.codebooks) * (units.vocabulary + 1), persistent=False)
        self.project = Linear(units.codebooks * dim, config.dim) if config.combine == "concatenate" else None
        self.score = nn.Sequential(Linear(dim, dim), nn.Tanh(), Linear(dim, 1)) if config.combine == "attention" else None

    def forward(self, units_BTQ: Tensor) -> Tensor:
        """int64 (B, T, Q) to (B, T, D). Raises ValueError for units of other codebooks or another vocabulary."""
        self.units.check(units_BTQ)
        padding_BT1 = (units_BTQ < 0).any(dim=-1, keepdim=True)
        rows_BTQ = units_BTQ.clamp(min=0) + self.first_Q
        return self._combined(rows_BTQ).masked_fill(padding_BT1, 0.0)

    def _combined(self, rows_BTQ: Tensor) -> Tensor:
        batch, frames, codebooks = rows_BTQ.shape
        if self.config.combine == "sum":
            bags = nn.functional.embedding_bag(rows_BTQ.reshape(-1, codebooks), self.table.weight, mode="sum")
            return bags.view(batch, frames, self.output_dim)
        embedded_BTQD = self.table(rows_BTQ)
        if self.project is not None:
            return self.project(embedded_BTQD.flatten(2))
        assert self.score is not None
        weights_BT1Q = self.score(embedded_BTQD).softmax(dim=2).transpose(2, 3)
        return (weights_BT1Q @ embedded_BTQD).squeeze(2)


class Embedding(nn.Module):
    """The frontend: units embedded, behind the numbers that stand before them in a frame, if any, which are brought to the same scale."""

    Config = UnitEmbedding.Config

    def __init__(self, config: UnitEmbedding.Config, feature_dim: int, units: UnitSpace) -> None:
        super().__init__()
        self.numbers = feature_dim - units.codebooks
        self.embedding = UnitEmbedding(config, units)
        self.output_dim = self.numbers + config.dim

    def forward(self, features_BTF: Tensor) -> Tensor:
        """Integers (B, T, Q), or float (B, T, C + Q), to (B, T, output_dim). Raises ValueError for other units or features."""
        if features_BTF.is_floating_point() != (self.numbers > 0):
            kind = f"{self.numbers} numbers with units beside them" if self.numbers else "units, which are integers,"
            raise ValueError(f"model.frontend: the model was made for {kind}, got {features_BTF.shape[-1]} columns of {features_BTF.dtype}")
        if not self.numbers:
            return self.embedding(features_BTF)
        numbers_BTC, units_BTQ = features_BTF[..., : self.numbers], features_BTF[..., self.numbers :]
        scaled_BTC = (numbers_BTC - TYPICAL_MEAN) / TYPICAL_STD
        return torch.cat((scaled_BTC, self.embedding(units_BTQ.long()).to(scaled_BTC.dtype)), dim=-1)


FRONTENDS: dict[str, Any] = {"embedding": Embedding}
FrontendConfig = one_of(FRONTENDS)
