"""The loss of the attention decoder."""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, LossOut, Targets


class AttentionLoss(nn.Module):
    """Cross entropy of each token given those before it, the end of the transcript included, summed over tokens.

    Labels are smoothed: a share of each is spread over the whole vocabulary; Szegedy et al., "Rethinking the Inception architecture for
    computer vision", CVPR 2016, section 7.
    """

    class Config(BaseConfig):
        """smoothing: the share of the label that is spread; 0 for a plain log-likelihood."""

        type: Literal["attention"] = "attention"
        weight: float = Field(default=1.0, gt=0)
        smoothing: float = Field(default=0.1, ge=0, lt=1)

    def __init__(self, config: "AttentionLoss.Config", model: Transducer) -> None:
        super().__init__()
        if model.attention is None:
            raise ValueError("losses: an attention loss needs an attention decoder; add 'attention: {}' to the model's config")
        self.config = config

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        logits_BUV = model.attention(targets.tokens_BU, encoder_out)
        wide_BVU = (logits_BUV if logits_BUV.dtype == torch.float64 else logits_BUV.float()).transpose(1, 2)
        labels_BU = F.pad(targets.tokens_BU, (0, 1), value=BLANK)
        losses_BU = F.cross_entropy(wide_BVU, labels_BU, reduction="none", label_smoothing=self.config.smoothing)
        beyond_BU = torch.arange(labels_BU.shape[1], device=labels_BU.device) > targets.lens_B.unsqueeze(1)
        return LossOut(losses_BU.masked_fill(beyond_BU, 0.0).sum(1))
