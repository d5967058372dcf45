"""What k-means clusters: log Mel energies, a layer of an encoder trained here, or a layer of a self-supervised model.

A source is called with a waveform (samples,) and gives frames (T, D). Its ``digest`` says which weights it has.
Shape legend: asr/types.py.
"""
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig
from asr.config import validate
from asr.features.fbank import FRAME_SHIFT, Fbank
from asr.files import digest_of, fingerprint, load_tensors

ENCODER_FILE = "encoder.pt"
"""Beside the codebooks: a trained encoder with its configs, as ``asr.experiment.pack_encoder`` writes it."""


class FbankSource:
    class Config(BaseConfig):
        type: Literal["fbank"] = "fbank"
        num_mel_bins: int = Field(default=80, ge=4)

        @property
        def name(self) -> str:
            return f"fbank_{self.num_mel_bins}"

        @property
        def frame_shift(self) -> float:
            return FRAME_SHIFT

    digest = ""

    def __init__(self, config: "FbankSource.Config", sample_rate: int, directory: Path, device: str) -> None:
        self._fbank = Fbank(Fbank.Config(num_mel_bins=config.num_mel_bins, sample_rate=sample_rate))
        self._device = device

    def __call__(self, samples: Tensor) -> Tensor:
        return self._fbank(samples).to(self._device)


class EncoderSource:
    """The output of a layer (Conformer) or stack (Zipformer, at 50 Hz) of an experiment's averaged model."""

    class Config(BaseConfig):
        """exp_dir: the experiment, trained on fbank. layer: counted from 0; negative from the last, -1.
        frame_shift: seconds; 0.04 for the layers of a Conformer, 0.02 for the stacks of a Zipformer.
        """

        type: Literal["encoder"] = "encoder"
        exp_dir: Path
        layer: int = -1
        frame_shift: float = Field(default=0.04, gt=0)

        @property
        def name(self) -> str:
            return f"{self.exp_dir.name}_{self.layer}"

    def __init__(self, config: "EncoderSource.Config", sample_rate: int, directory: Path, device: str) -> None:
        from asr.models.encoders import ENCODERS
        from asr.models.transducer import Transducer

        where = str(directory / ENCODER_FILE)
        packed = load_tensors(where)
        configs = json.loads(packed["configs"])
        features = validate(Fbank.Config, configs["features"], where)
        if features.sample_rate != sample_rate:
            raise ValueError(f"{config.exp_dir} was trained on audio of {features.sample_rate} Hz, but features.sample_rate is "
                             f"{sample_rate}: set it, and corpus.sample_rate, to {features.sample_rate}")

        encoder_config: Any = validate(Transducer.Config, configs["model"], where).encoder
        self._encoder = ENCODERS[encoder_config.type](encoder_config, features.dim)
        self._encoder.load_state_dict(packed["state"])
        self._encoder.to(device).eval()
        self._fbank, self._device = Fbank(features), device
        self.digest = digest_of(packed["state"])
        layers = getattr(self._encoder, "stacks", None) or self._encoder.layers
        if not -len(layers) <= config.layer < len(layers):
            raise ValueError(f"features.extractor.source.layer: {config.layer} is not one of the {len(layers)} of {config.exp_dir}, from 0")
        rate = self._encoder.subsampling // getattr(self._encoder, "halving", 1)
        _check_shift(config.frame_shift, rate * features.frame_shift, str(config.exp_dir))
        self._found: dict[str, Any] = {}
        layers[config.layer].register_forward_hook(lambda _module, _inputs, output: self._found.update(frames=output))
        self._encoder.frontend.register_forward_hook(lambda _module, _inputs, output: self._found.update(embedded=output))

    def __call__(self, samples: Tensor) -> Tensor:
        features_1TF = self._fbank(samples).unsqueeze(0).to(self._device)
        if features_1TF.shape[1] < self._encoder.min_frames:
            raise ValueError(f"{features_1TF.shape[1]} feature frames are too few for the encoder, which needs {self._encoder.min_frames}")
        with torch.no_grad():
            self._encoder(features_1TF, torch.tensor([features_1TF.shape[1]], device=self._device))
        embedded = self._found["embedded"]
        frames = (embedded[0] if isinstance(embedded, tuple) else embedded).shape[1]  # stacks add padding to a multiple of their period
        return self._found["frames"][0, :frames].float()


class SslSource:
    """A layer of HuBERT, WavLM, wav2vec 2.0, XLS-R or data2vec, loaded by the transformers library."""

    class Config(BaseConfig):
        """model: a local folder, or a name on the hub. layer: 0 is what the transformer gets, n what its n-th layer gives.
        frame_shift: of the model, in seconds.
        """

        type: Literal["ssl"] = "ssl"
        model: str
        layer: int = Field(ge=0)
        frame_shift: float = Field(default=0.02, gt=0)

        @property
        def name(self) -> str:
            return f"{Path(self.model).name}_{self.layer}"

    def __init__(self, config: "SslSource.Config", sample_rate: int, directory: Path, device: str) -> None:
        transformers = import_transformers()
        self._model: Any = from_pretrained(transformers.AutoModel, config.model)
        self._prepare: Any = from_pretrained(transformers.AutoFeatureExtractor, config.model)
        check_sample_rate(config.model, self._prepare.sampling_rate, sample_rate)
        self._sample_rate, self._device, self._layer = sample_rate, device, config.layer
        layers = self._model.encoder.layers
        if config.layer > len(layers):
            raise ValueError(f"features.extractor.source.layer: {config.model} has {len(layers)} layers, {config.layer} was asked for")
        _check_shift(config.frame_shift, math.prod(self._model.config.conv_stride) / sample_rate, config.model)
        self.digest = weights_digest(self._model)
        # The layers above are of no use; one is kept because some models normalise the last layer's output.
        self._model.encoder.layers = layers[: config.layer + 1]
        self._model.to(device).eval()

    def __call__(self, samples: Tensor) -> Tensor:
        inputs = self._prepare(samples.numpy(), sampling_rate=self._sample_rate, return_tensors="pt").input_values
        if not int(self._model._get_feat_extract_output_lengths(inputs.shape[1])) > 0:
            raise ValueError(f"{samples.numel()} samples are less than one frame of the model")
        with torch.no_grad():
            hidden = self._model(inputs.to(self._device), output_hidden_states=True).hidden_states
        return torch.as_tensor(hidden[self._layer][0]).float()


SOURCES: dict[str, Any] = {"fbank": FbankSource, "encoder": EncoderSource, "ssl": SslSource}


def import_transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ValueError("features.extractor: the transformers library is not installed: pip install -e '.[ssl]'") from None
    return transformers


def from_pretrained(kind: Any, model: str) -> Any:
    """What transformers loads. Raises ValueError, with its first line, where it cannot."""
    try:
        return kind.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{model}: transformers cannot load it ({str(error).splitlines()[0]}); name a folder that holds config.json, "
                         "preprocessor_config.json and model.safetensors, or a model on the hub where it can be reached") from None


def weights_digest(model: torch.nn.Module) -> str:
    """By the tensors alone: what they are called depends on the versions of torch and transformers."""
    return fingerprint(sorted(digest_of({"": value}) for value in model.state_dict().values()))


def check_sample_rate(model: str, rate: int, sample_rate: int) -> None:
    if rate != sample_rate:
        raise ValueError(f"{model} takes audio of {rate} Hz and features.sample_rate is {sample_rate}: set it, and corpus.sample_rate, "
                         f"to {rate}, with corpus.resample: true where the audio has another rate")


def _check_shift(stated: float, actual: float, model: str) -> None:
    if not math.isclose(stated, actual, rel_tol=1e-4):
        raise ValueError(f"{model} gives a frame every {actual:g} s: set features.extractor.source.frame_shift to that, not {stated:g}")
