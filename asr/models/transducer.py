"""The transducer: encoder, predictor and joiner, with an optional CTC head on the encoder.

Graves, "Sequence Transduction with Recurrent Neural Networks", 2012. Shape legend: asr/types.py; J is the joiner's dimension.
"""
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.models.checkpointing import Checkpointing
from asr.models.ctc import CtcHead
from asr.models.encoders import ENCODERS, EncoderConfig
from asr.models.joiner import Joiner
from asr.models.predictors import PREDICTORS, PredictorConfig
from asr.types import EncoderOut


class Transducer(nn.Module):
    class Config(BaseConfig):
        encoder: EncoderConfig  # type: ignore[valid-type]
        predictor: PredictorConfig  # type: ignore[valid-type]
        joiner: Joiner.Config = Joiner.Config()
        ctc: CtcHead.Config | None = None

    def __init__(self, config: "Transducer.Config", feature_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.encoder: Any = ENCODERS[config.encoder.type](config.encoder, feature_dim)
        self.predictor: Any = PREDICTORS[config.predictor.type](config.predictor, vocab_size)
        self.joiner = Joiner(config.joiner, self.encoder.output_dim, self.predictor.output_dim, vocab_size)
        self.ctc = None if config.ctc is None else CtcHead(config.ctc, self.encoder.output_dim, vocab_size)

    @property
    def durations(self) -> tuple[int, ...]:
        """By how many frames a token or blank may advance; empty unless this is a token-and-duration transducer."""
        return self.joiner.durations

    def on_step(self, step: int) -> None:
        """Tells the encoder the number of the training step, where it has values that change with it."""
        if hasattr(self.encoder, "set_step"):
            self.encoder.set_step(step)

    def checkpoint_activations(self) -> None:
        """From now on the encoder computes its activations again in the backward pass instead of keeping them."""
        modules = [module for module in self.encoder.modules() if isinstance(module, Checkpointing)]
        if not modules:
            raise ValueError("this encoder has no activation checkpointing: set train.activation_checkpointing to false")
        for module in modules:
            module.activation_checkpointing = True

    def encode(self, features_BTF: Tensor, lens_B: Tensor) -> EncoderOut:
        return self.encoder(features_BTF, lens_B)

    def ctc_log_probs(self, encoder_out: EncoderOut) -> Tensor:
        """Log-probabilities (B, S, V) of the CTC head."""
        if self.ctc is None:
            raise ValueError("this model has no CTC head: train it with 'model.ctc: {}' and a ctc loss, or choose another search")
        return self.ctc(encoder_out.frames_BSD)
