"""Distillation by codebook indexes: against a loop, with padding, at both rates, and what is refused."""
from __future__ import annotations

import pytest
import torch

from asr.losses.mvq import Mvq
from asr.types import EncoderOut, Targets, UnitSpace
from tests.losses.conftest import build

SPACE = UnitSpace(codebooks=3, vocabulary=7)
LENS, TEACHER = [9, 4, 6], {1: [10, 3, 6], 2: [20, 7, 12]}
"""Frames of the encoder; and of the teacher, by how many there are for each."""


def loss_of(frames: int = 2) -> Mvq:
    model = build()
    model.beside = SPACE
    return Mvq(Mvq.Config(frames=frames), model)


def batch(loss: Mvq, padding: float = 0.0) -> tuple[EncoderOut, Targets]:
    generator = torch.Generator().manual_seed(0)
    frames_BSD = torch.randn(3, 9, loss.classify.in_features, generator=generator)
    codes_BTQ = torch.randint(SPACE.vocabulary, (3, 20, 3), generator=generator)
    for row, (length, teacher) in enumerate(zip(LENS, TEACHER[loss.config.frames])):
        frames_BSD[row, length:] = padding
        codes_BTQ[row, teacher:] = -1
    return EncoderOut(frames_BSD, torch.tensor(LENS)), Targets(torch.ones(3, 1).long(), torch.ones(3).long(), codes_BTQ)


@torch.no_grad()
def by_hand(loss: Mvq, encoder_out: EncoderOut, targets: Targets, row: int) -> float:
    total, frames, count = 0.0, loss.config.frames, loss.config.frames * SPACE.codebooks
    for s in range(LENS[row]):
        log_probs = loss.classify(encoder_out.frames_BSD[row, s]).view(frames, SPACE.codebooks, -1).log_softmax(dim=-1)
        for r in range(frames):
            if frames * s + r < TEACHER[frames][row]:
                for q, code in enumerate(targets.codes_BTQ[row, frames * s + r]):
                    total -= float(log_probs[r, q, code]) / count
    return total


@pytest.mark.parametrize("frames", [1, 2])
def test_it_is_the_cross_entropy_of_each_code(frames: int) -> None:
    loss = loss_of(frames)
    encoder_out, targets = batch(loss)
    out = loss(encoder_out, targets, None, 0)
    assert out.total_B.tolist() == pytest.approx([by_hand(loss, encoder_out, targets, row) for row in range(3)], rel=1e-5)


def test_padding_may_hold_anything() -> None:
    loss = loss_of()
    losses, gradients = [], []
    for padding in (0.0, float("nan")):
        encoder_out, targets = batch(loss, padding)
        loss.zero_grad()
        total_B = loss(encoder_out, targets, None, 0).total_B
        total_B.sum().backward()
        losses.append(total_B.detach())
        gradients.append(loss.classify.weight.grad.clone())
    assert torch.equal(*losses) and torch.equal(*gradients)


def test_other_rates_and_other_codes_are_refused() -> None:
    loss = loss_of()
    encoder_out, targets = batch(loss)
    long = Targets(targets.tokens_BU, targets.lens_B, torch.zeros(3, 60, 3).long())
    with pytest.raises(ValueError, match="60 frames of codes for 4 encoder frames"):
        loss(encoder_out, long, None, 0)
    with pytest.raises(ValueError, match="3 codebooks, these have 2"):
        loss(encoder_out, Targets(targets.tokens_BU, targets.lens_B, targets.codes_BTQ[..., :2]), None, 0)
    with pytest.raises(ValueError, match="mvq predicts units"):
        Mvq(Mvq.Config(), build())
