"""Cross-utterance context: what was said before and after an utterance in the same recording, as units, for the encoder to see.

Cui et al., "Exploring SSL discrete speech features for Zipformer-based contextual ASR", arXiv 2409.08797. There the encoder's embeddings
of the neighbours are concatenated or pooled; here it is its input, so that context goes with every encoder.
Shape legend: asr/types.py; P frames of context.

Neighbours are int64 (B, T, Q), padded with -1; an utterance without one has nothing but -1 in its row.
"""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.models.frontends import UnitEmbedding
from asr.models.layers import Linear
from asr.types import UnitSpace


class Context(nn.Module):
    """Base of both: frames that stand before and after those of an utterance (``frames`` of them), and an offset to all of its frames."""

    class Config(BaseConfig):
        """past, future: whether the preceding and the following utterance are looked at. embedding: of their units."""

        past: bool = True
        future: bool = False
        embedding: UnitEmbedding.Config = UnitEmbedding.Config(dim=128)

        @model_validator(mode="after")
        def _some(self) -> "Context.Config":
            if not (self.past or self.future):
                raise ValueError("context: of the past, of the future, or of both; set the section to null for neither")
            return self

    frames = 0
    config: Any

    def offset(self, before_BTQ: Tensor | None, after_BTQ: Tensor | None, like_BTF: Tensor) -> Tensor | None:
        """(B, 1, F)"""
        return None

    def prefix(self, before_BTQ: Tensor | None, like_BTF: Tensor) -> Tensor:
        """(B, P, F)"""
        return like_BTF[:, :0]

    def forward(
        self, x_BTF: Tensor, lens_B: Tensor, before_BTQ: Tensor | None, after_BTQ: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The encoder's input with its surroundings, and its lengths. The utterance itself begins at frame ``frames``."""
        offset_B1F = self.offset(before_BTQ, after_BTQ, x_BTF)
        return (x_BTF if offset_B1F is None else x_BTF + offset_B1F), lens_B


class PooledContext(Context):
    """Each neighbour in one vector, by attention with a learned query over its frames, added to every frame of the utterance."""

    class Config(Context.Config):
        type: Literal["pooled"] = "pooled"

    def __init__(self, config: "PooledContext.Config", feature_dim: int, units: UnitSpace, subsampling: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = UnitEmbedding(config.embedding, units)
        dim = config.embedding.dim
        self.nothing_D = nn.Parameter(torch.zeros(dim))
        self.score = Linear(dim, 1)
        self.project = nn.ModuleDict({side: Linear(dim, feature_dim) for side in ("past", "future") if getattr(config, side)})

    def offset(self, before_BTQ: Tensor | None, after_BTQ: Tensor | None, like_BTF: Tensor) -> Tensor:
        sides = {"past": before_BTQ, "future": after_BTQ}
        vectors = [project(self._pooled(sides[side], len(like_BTF))) for side, project in self.project.items()]
        return torch.stack(vectors).sum(dim=0).unsqueeze(1).to(like_BTF.dtype)

    def _pooled(self, units_BTQ: Tensor | None, batch: int) -> Tensor:
        """(B, D). What stands for no neighbour is a frame of every neighbour's."""
        nothing_B1D = self.nothing_D.expand(batch, 1, -1)
        if units_BTQ is None:
            return nothing_B1D.squeeze(1)
        frames_BTD = torch.cat((nothing_B1D, self.embedding(units_BTQ)), dim=1)
        padding_BT = F.pad((units_BTQ < 0).any(dim=-1), (1, 0), value=False)
        weights_BT = self.score(frames_BTD).squeeze(-1).masked_fill(padding_BT, -torch.inf).softmax(dim=1)
        return torch.einsum("bt,btd->bd", weights_BT, frames_BTD)


class ConcatenatedContext(Context):
    """The last frames of the preceding utterance stand before those of this one, the first frames of the following one after them."""

    class Config(Context.Config):
        """frames: of each neighbour; where it has fewer, a learned frame fills the place. A multiple of the encoder's subsampling."""

        type: Literal["concatenated"] = "concatenated"
        frames: int = Field(default=64, ge=1)

    def __init__(self, config: "ConcatenatedContext.Config", feature_dim: int, units: UnitSpace, subsampling: int) -> None:
        super().__init__()
        if config.frames % subsampling:
            raise ValueError(f"model.context.frames: {config.frames} is not a multiple of the encoder's subsampling, {subsampling}")
        self.config = config
        self.frames = config.frames if config.past else 0
        self.embedding = UnitEmbedding(config.embedding, units)
        self.project = Linear(config.embedding.dim, feature_dim)
        self.nothing_F = nn.Parameter(torch.zeros(feature_dim))

    def prefix(self, before_BTQ: Tensor | None, like_BTF: Tensor) -> Tensor:
        if not self.config.past:
            return like_BTF[:, :0]
        if before_BTQ is not None:  # its end is what matters: padding goes to the front
            lens_B1 = (before_BTQ >= 0).all(dim=-1).sum(dim=1, keepdim=True)
            place_BP = lens_B1 + torch.arange(-self.frames, 0, device=before_BTQ.device)
            before_BTQ = _taken(before_BTQ, place_BP)
        return self._filled(before_BTQ, like_BTF)

    def forward(
        self, x_BTF: Tensor, lens_B: Tensor, before_BTQ: Tensor | None, after_BTQ: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x_BTF, lens_B = torch.cat((self.prefix(before_BTQ, x_BTF), x_BTF), dim=1), lens_B + self.frames
        if not self.config.future:
            return x_BTF, lens_B
        place_P = torch.arange(self.config.frames, device=x_BTF.device)
        if after_BTQ is not None:
            after_BTQ = _taken(after_BTQ, place_P.expand(len(after_BTQ), -1))
        suffix_BPF = self._filled(after_BTQ, x_BTF)
        index_BP1 = (lens_B.unsqueeze(1) + place_P).unsqueeze(-1)
        x_BTF = F.pad(x_BTF, (0, 0, 0, self.config.frames))
        return x_BTF.scatter(1, index_BP1.expand_as(suffix_BPF), suffix_BPF), lens_B + self.config.frames

    def _filled(self, units_BPQ: Tensor | None, like_BTF: Tensor) -> Tensor:
        nothing_BPF = self.nothing_F.to(like_BTF.dtype).expand(len(like_BTF), self.config.frames, -1)
        if units_BPQ is None:
            return nothing_BPF
        frames_BPF = self.project(self.embedding(units_BPQ)).to(like_BTF.dtype)
        return torch.where((units_BPQ >= 0).all(dim=-1, keepdim=True), frames_BPF, nothing_BPF)


def _taken(units_BTQ: Tensor, place_BP: Tensor) -> Tensor:
    """The units (B, P, Q) at these frames, -1 for those outside."""
    count = units_BTQ.shape[1]
    if not count:
        return units_BTQ.new_full((*place_BP.shape, units_BTQ.shape[2]), -1)
    inside_BP1 = ((place_BP >= 0) & (place_BP < count)).unsqueeze(-1)
    taken_BPQ = units_BTQ.gather(1, place_BP.clamp(0, count - 1).unsqueeze(-1).expand(-1, -1, units_BTQ.shape[2]))
    return taken_BPQ.masked_fill(~inside_BP1, -1)


CONTEXTS: dict[str, Any] = {"pooled": PooledContext, "concatenated": ConcatenatedContext}
ContextConfig = one_of(CONTEXTS)
