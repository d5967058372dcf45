"""The transducer: encoder, predictor and joiner, with an optional CTC head and an optional attention decoder on the encoder.

Graves, "Sequence Transduction with Recurrent Neural Networks", 2012. Shape legend: asr/types.py; J is the joiner's dimension.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.models.attention_decoder import AttentionDecoder
from asr.models.checkpointing import Checkpointing
from asr.models.context import CONTEXTS, ContextConfig
from asr.models.ctc import CtcHead
from asr.models.encoders import ENCODERS, EncoderConfig
from asr.models.frontends import FRONTENDS, FrontendConfig
from asr.models.joiner import Joiner
from asr.models.predictors import PREDICTORS, PredictorConfig
from asr.types import EncoderOut, UnitSpace


@dataclass(frozen=True)
class StreamState:
    """encoder: its own state. offset_B1F: what the context adds to each frame. skip: encoder frames of the context still to come."""

    encoder: Any
    offset_B1F: Tensor | None
    skip: int


class Transducer(nn.Module):
    class Config(BaseConfig):
        """frontend: what makes numbers of discrete units; needed for them, and of no use for others.
        context: how the encoder sees the utterances before and after in the recording; null for not at all.
        ctc, attention: more heads on the encoder, each trained by a loss of its own; null for none.
        """

        frontend: FrontendConfig | None = None  # type: ignore[valid-type]
        context: ContextConfig | None = None  # type: ignore[valid-type]
        encoder: EncoderConfig  # type: ignore[valid-type]
        predictor: PredictorConfig  # type: ignore[valid-type]
        joiner: Joiner.Config = Joiner.Config()
        ctc: CtcHead.Config | None = None
        attention: AttentionDecoder.Config | None = None

    def __init__(
        self, config: "Transducer.Config", feature_dim: int, vocab_size: int, units: UnitSpace | None = None,
        beside: UnitSpace | None = None,
    ) -> None:
        """feature_dim: columns of the features, of which the last ``units.codebooks`` are units. units: None for features without units.
        beside: the units of the context, and those that losses predict; by default those of the features.
        """
        super().__init__()
        self.vocab_size, self.feature_dim, self.units, self.beside = vocab_size, feature_dim, units, beside or units
        self.frontend: Any = self._frontend(config, feature_dim, units)
        encoder_dim: Any = feature_dim if self.frontend is None else self.frontend.output_dim
        self.encoder: Any = ENCODERS[config.encoder.type](config.encoder, encoder_dim)
        if self.frontend is not None and getattr(self.encoder, "reads_mel", False):
            raise ValueError("model.encoder: a frontend gives no Mel bins to convolve: set 'subsampling: {type: frames, factor: 2}' "
                             "(conformer), or 'frontend: frames' and 'subsampling: 2' (zipformer); 4 for 100 Hz, 1 for 25 Hz")
        self.context: Any = self._context(config, encoder_dim)
        self.predictor: Any = PREDICTORS[config.predictor.type](config.predictor, vocab_size)
        self.joiner = Joiner(config.joiner, self.encoder.output_dim, self.predictor.output_dim, vocab_size)
        self.ctc = None if config.ctc is None else CtcHead(config.ctc, self.encoder.output_dim, vocab_size)
        self.attention: Any = None
        if config.attention is not None:
            self.attention = AttentionDecoder(config.attention, self.encoder.output_dim, vocab_size)

    @staticmethod
    def _frontend(config: "Transducer.Config", feature_dim: int, units: UnitSpace | None) -> nn.Module | None:
        if config.frontend is None and units is None:
            return None
        if config.frontend is None:
            raise ValueError("model.frontend: discrete units need one, for example 'frontend: {type: embedding, dim: 256}'")
        if units is None:
            raise ValueError("model.frontend: there are no units for it; leave it out, or say which by 'features' or 'units'")
        return FRONTENDS[config.frontend.type](config.frontend, feature_dim, units)

    def _context(self, config: "Transducer.Config", encoder_dim: int) -> nn.Module | None:
        if config.context is None:
            return None
        if self.beside is None:
            raise ValueError("model.context: it is made of units; say of which by 'units', or let 'features' be units")
        if config.context.future and getattr(config.encoder, "causal", False):
            raise ValueError("model.context.future: a causal encoder cannot know the utterance that follows; set it to false")
        return CONTEXTS[config.context.type](config.context, encoder_dim, self.beside, self.encoder.subsampling)

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

    def encode(
        self, features_BTF: Tensor, lens_B: Tensor, before_BTQ: Tensor | None = None, after_BTQ: Tensor | None = None
    ) -> EncoderOut:
        """Arguments as those of ``Batch``; without neighbours, a model with context takes the utterance for the only one.

        Raises ValueError for units of other codebooks, or of another vocabulary, than the model was made for.
        """
        x_BTF = self._embedded(features_BTF)
        if self.context is None:
            return self.encoder(x_BTF, lens_B)
        around = self.encoder(*self.context(x_BTF, lens_B, before_BTQ, after_BTQ))
        first = self.context.frames // self.encoder.subsampling
        most = int(self.encoder.frames_out(torch.tensor(features_BTF.shape[1])))
        return EncoderOut(around.frames_BSD[:, first : first + most], self.encoder.frames_out(lens_B))

    def _embedded(self, features_BTF: Tensor) -> Tensor:
        if self.frontend is not None:
            return self.frontend(features_BTF)
        if not features_BTF.is_floating_point():
            raise ValueError(f"the model was made for {self.feature_dim} numbers per frame, and got discrete units")
        return features_BTF

    def start(self, streams: int, device: torch.device | str = "cpu", before_BTQ: Tensor | None = None) -> StreamState:
        """The state before the first frame of so many streams. before_BTQ: units of the utterances that precede them."""
        encoder = self.encoder.start(streams, device)
        if self.context is None:
            return StreamState(encoder, None, 0)
        nothing_BTF = torch.zeros(streams, 0, self.encoder.feature_dim, device=device)
        prefix_BPF = self.context.prefix(before_BTQ, nothing_BTF)
        out, encoder = self.encoder.step(prefix_BPF, encoder)
        skip = prefix_BPF.shape[1] // self.encoder.subsampling - out.frames_BSD.shape[1]
        return StreamState(encoder, self.context.offset(before_BTQ, None, nothing_BTF), skip)

    def step(
        self, features_BTF: Tensor, state: StreamState, final: bool = False, lens_B: Tensor | None = None
    ) -> tuple[EncoderOut, StreamState]:
        """``encoder.step`` of features as :meth:`encode` takes them: all calls together give the frames of the whole."""
        x_BTF = self._embedded(features_BTF)
        if state.offset_B1F is not None:
            x_BTF = x_BTF + state.offset_B1F
        out, encoder = self.encoder.step(x_BTF, state.encoder, final, lens_B)
        skipped = min(state.skip, out.frames_BSD.shape[1])
        own = EncoderOut(out.frames_BSD[:, skipped:], (out.lens_B - skipped).clamp(min=0))
        return own, replace(state, encoder=encoder, skip=state.skip - skipped)

    def noise(self, batch: int, frames: int) -> Tensor:
        """Random features (B, T, F) in the form that :meth:`encode` takes."""
        codebooks = 0 if self.units is None else self.units.codebooks
        numbers_BTC = torch.randn(batch, frames, self.feature_dim - codebooks)
        if self.units is None:
            return numbers_BTC
        units_BTQ = torch.randint(self.units.vocabulary, (batch, frames, codebooks))
        return torch.cat((numbers_BTC, units_BTQ), dim=-1) if numbers_BTC.shape[-1] else units_BTQ

    def ctc_log_probs(self, encoder_out: EncoderOut) -> Tensor:
        """Log-probabilities (B, S, V) of the CTC head."""
        if self.ctc is None:
            raise ValueError("this model has no CTC head: train it with 'model.ctc: {}' and a ctc loss, or choose another search")
        return self.ctc(encoder_out.frames_BSD)
