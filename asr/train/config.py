"""What there is to choose about training."""
from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from asr.config import Config
from asr.data import BatchConfig
from asr.models.adapters import TuneConfig
from asr.train.checkpoints import CheckpointConfig
from asr.train.optimizers import OptimizerConfig, ScaledAdam
from asr.train.schedules import Eden, ScheduleConfig


class TrainConfig(Config):
    """Training ends with whichever part of the budget is used up first: ``epochs``, ``max_steps`` or ``max_minutes``.

    batches_per_step: micro-batches of one optimizer step, over all processes together: with 4, one process accumulates
        4, two accumulate 2 each, four take one each, and the training is the same.
    init_from: directory of an experiment (exp/conformer) whose averaged weights this one starts from, as far as they fit.
    tune: which part of ``init_from``'s model is trained: null for all of it, adapters, or low-rank changes (lora). What is not, is not
        kept in checkpoints either: such an experiment needs the other one to decode, until ``asr merge`` has made it whole.
    amp: autocast type. average_period: steps between two terms of the running average of the model.
    activation_checkpointing: the encoder computes its activations again in the backward pass instead of keeping them, which gives
        the same gradients with much less memory and more time.
    device: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1". threads: of torch on the CPU; None leaves its default.
    max_bad_steps: after so many skipped steps in a row, training goes back to the last checkpoint with half the step size.
    """

    epochs: int = Field(default=30, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    optimizer: OptimizerConfig = ScaledAdam.Config()  # type: ignore[valid-type]
    schedule: ScheduleConfig = Eden.Config()  # type: ignore[valid-type]
    batches: BatchConfig = BatchConfig()
    batches_per_step: int = Field(default=1, ge=1)
    init_from: str | None = None
    tune: TuneConfig | None = None  # type: ignore[valid-type]
    amp: Literal["none", "bf16", "fp16"] = "none"
    activation_checkpointing: bool = False
    average_period: int = Field(default=20, ge=1)
    checkpoints: CheckpointConfig = CheckpointConfig()
    validate_every: int = Field(default=1, ge=1, description="epochs between validations")
    max_bad_steps: int = Field(default=5, ge=1)
    log_interval: int = Field(default=20, ge=1, description="steps")
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _a_model_to_tune(self) -> "TrainConfig":
        if self.tune is not None and self.init_from is None:
            raise ValueError("tune changes a part of a trained model: name its experiment, init_from: exp/...")
        return self
