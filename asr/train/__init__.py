"""Training: optimizers, schedules, checkpoints and the loop. See README.md."""
from asr.train.config import TrainConfig
from asr.train.trainer import Trainer

__all__ = ["TrainConfig", "Trainer"]
