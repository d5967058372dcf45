"""Learning-rate schedules: pure functions of the position, so that there is nothing to save or restore.

``factor(step, epoch, done)`` multiplies the optimizer's ``lr``; ``step`` counts optimizer steps done, ``epoch`` whole epochs done,
both from 0; ``done`` is the fraction of the epochs (or of ``max_steps``, where that is nearer) that is done. Minutes do not count:
every process must find the same rate.
"""
from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from asr.config import Config as BaseConfig
from asr.config import one_of

Steps = Annotated[int, Field(ge=0)]
PositiveSteps = Annotated[int, Field(ge=1)]


class Eden:
    """Decays with the number of steps and of epochs: Yao et al., "Zipformer", arXiv 2310.11230, equation (8).

    ((s² + decay_steps²) / decay_steps²)^-1/4 · ((e² + decay_epochs²) / decay_epochs²)^-1/4 · warm-up, where the
    warm-up rises linearly from ``warmup_start`` to 1 over ``warmup_steps``.
    """

    class Config(BaseConfig):
        type: Literal["eden"] = "eden"
        decay_steps: float = Field(default=7500, gt=0)
        decay_epochs: float = Field(default=3.5, gt=0)
        warmup_steps: Steps = 500
        warmup_start: float = Field(default=0.5, ge=0, le=1)

    def __init__(self, config: "Eden.Config") -> None:
        self.config = config

    def factor(self, step: int, epoch: int, done: float) -> float:
        config = self.config
        by_step = (1 + (step / config.decay_steps) ** 2) ** -0.25
        by_epoch = (1 + (epoch / config.decay_epochs) ** 2) ** -0.25
        risen = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
        return by_step * by_epoch * (config.warmup_start + (1 - config.warmup_start) * risen)


class Noam:
    """Linear warm-up, then the inverse square root of the step: Vaswani et al. 2017, equation (3), scaled to a peak of 1."""

    class Config(BaseConfig):
        type: Literal["noam"] = "noam"
        warmup_steps: PositiveSteps = 1000

    def __init__(self, config: "Noam.Config") -> None:
        self.config = config

    def factor(self, step: int, epoch: int, done: float) -> float:
        warmup, now = self.config.warmup_steps, step + 1
        return min(now / warmup, math.sqrt(warmup / now))


class Cosine:
    """A linear warm-up, and half a cosine from 1 to ``final`` at the end of training: Loshchilov and Hutter 2017, one cycle.

    A finished run that is given more epochs goes on with a larger rate than it ended with.
    """

    class Config(BaseConfig):
        type: Literal["cosine"] = "cosine"
        warmup_steps: Steps = 1000
        final: float = Field(default=0.0, ge=0, le=1)

    def __init__(self, config: "Cosine.Config") -> None:
        self.config = config

    def factor(self, step: int, epoch: int, done: float) -> float:
        config = self.config
        risen = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        return risen * (config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Constant:
    """Linear warm-up, then 1."""

    class Config(BaseConfig):
        type: Literal["constant"] = "constant"
        warmup_steps: Steps = 0

    def __init__(self, config: "Constant.Config") -> None:
        self.config = config

    def factor(self, step: int, epoch: int, done: float) -> float:
        warmup = self.config.warmup_steps
        return min(1.0, (step + 1) / warmup) if warmup else 1.0


SCHEDULES = {"eden": Eden, "noam": Noam, "cosine": Cosine, "constant": Constant}
ScheduleConfig = one_of(SCHEDULES)
