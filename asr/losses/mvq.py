"""Distillation by codebook indexes: Guo et al., "Predicting Multi-Codebook Vector Quantization Indexes for Knowledge Distillation",
ICASSP 2023. A teacher's frames, quantised once by several codebooks, take little room, and the student predicts which codes they got.

Shape legend: asr/types.py; R teacher frames per encoder frame, K ids of a codebook.
"""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.losses.arcs import zero_padding
from asr.models.layers import Linear
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets

TOLERANCE = 10
"""Encoder frames by which a teacher may be longer or shorter: convolutions leave out what does not fill them at the ends."""


class Mvq(nn.Module):
    """-log P(codes), by one linear classifier per codebook (and teacher frame) on the encoder's frames; the mean over a frame's codes,
    summed over frames. Encoder frame s predicts the teacher frames R s ... R s + R - 1; what lies beyond either end does not count."""

    class Config(BaseConfig):
        """frames: R, teacher frames per encoder frame: 2 for a teacher at 50 Hz and an encoder at 25 Hz, as published."""

        type: Literal["mvq"] = "mvq"
        weight: float = Field(default=1.0, gt=0)
        frames: int = Field(default=2, ge=1)

    def __init__(self, config: "Mvq.Config", model: Transducer) -> None:
        super().__init__()
        if model.beside is None:
            raise ValueError("losses: mvq predicts units: name the teacher's codes by 'units' (docs/models.md)")
        self.config = config
        self.codes = model.beside
        self.classify = Linear(model.encoder.output_dim, config.frames * self.codes.codebooks * self.codes.vocabulary)

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        assert targets.codes_BTQ is not None, "the loader gives codes where a loss predicts them"
        self.codes.check(targets.codes_BTQ)
        codes_BSN = self.aligned(targets.codes_BTQ, encoder_out)
        logits_BSNK = self.classify(zero_padding(encoder_out)).unflatten(-1, (codes_BSN.shape[-1], self.codes.vocabulary))
        nll_BSN = F.cross_entropy(logits_BSNK.float().movedim(-1, 1), codes_BSN, ignore_index=-1, reduction="none")
        return LossOut(nll_BSN.mean(dim=2).sum(dim=1))

    def aligned(self, codes_BTQ: Tensor, encoder_out: EncoderOut) -> Tensor:
        """(B, S, R Q), the codes of each encoder frame, -1 outside. Raises ValueError where the two rates are others than R says."""
        frames = encoder_out.frames_BSD.shape[1]
        teacher_B = (codes_BTQ >= 0).all(dim=-1).sum(dim=1)
        off_B = (teacher_B / self.config.frames - encoder_out.lens_B).abs()
        if bool((off_B > TOLERANCE + 0.1 * encoder_out.lens_B).any()):
            worst = int(off_B.argmax())
            raise ValueError(f"losses: mvq: {int(teacher_B[worst])} frames of codes for {int(encoder_out.lens_B[worst])} encoder frames: "
                             f"set frames (now {self.config.frames}) to the ratio of the two rates")
        wanted = frames * self.config.frames
        codes_BTQ = F.pad(codes_BTQ, (0, 0, 0, max(0, wanted - codes_BTQ.shape[1])), value=-1)[:, :wanted]
        codes_BSN = codes_BTQ.reshape(len(codes_BTQ), frames, -1)
        inside_BS1 = (torch.arange(frames, device=codes_BTQ.device) < encoder_out.lens_B.unsqueeze(1)).unsqueeze(-1)
        return codes_BSN.masked_fill(~inside_BS1, -1)
