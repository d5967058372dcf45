"""Log Mel filter banks as Kaldi computes them, by lhotse's torch code or by kaldifeat.

Shape legend: asr/types.py.
"""
from __future__ import annotations

import importlib.util
import math
from typing import Any, Callable, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig

FRAME_LENGTH = 0.025
FRAME_SHIFT = 0.01
MEL_FLOOR = torch.finfo(torch.float32).eps
"""Kaldi's: no Mel energy is less."""


class Fbank:
    """Log Mel filter banks: 25 ms windows every 10 ms, no dither, frames centred so that N samples give round(N / shift) frames."""

    class Config(BaseConfig):
        """num_mel_bins: between 20 Hz and 400 Hz below half the sample rate.
        sample_rate: of the audio, in Hz; it must be the corpus's.
        engine: what computes them; ``auto`` takes kaldifeat where it is installed. The two agree to 1e-3.
        stored: computed once and kept in ``data/``, or made anew from audio whenever a batch is loaded. Changing the audio
            (speed, volume, noise) on the fly needs ``stored: false``.
        """

        type: Literal["fbank"] = "fbank"
        engine: Literal["auto", "lhotse", "kaldifeat"] = "auto"
        num_mel_bins: int = Field(default=80, ge=4)
        sample_rate: int = Field(default=16000, ge=2000)
        stored: bool = True

        discrete: ClassVar[bool] = False

        @property
        def name(self) -> str:
            """Name of the directory that holds them."""
            return f"fbank_{self.num_mel_bins}"

        @property
        def dim(self) -> int:
            return self.num_mel_bins

        @property
        def frame_shift(self) -> float:
            """Seconds from one frame to the next."""
            return FRAME_SHIFT

        @property
        def padding_value(self) -> float:
            """The value of digital silence, with which shorter utterances of a batch are padded."""
            return math.log(MEL_FLOOR)

        def num_frames(self, num_samples: int) -> int:
            hop = round(FRAME_SHIFT * self.sample_rate)
            return (num_samples + hop // 2) // hop

    kind = "fbank"
    """What the features of a cut are said to be."""

    def __init__(self, config: "Fbank.Config") -> None:
        self.config = config
        self.engine = chosen_engine(config.engine)
        self._compute = ENGINES[self.engine](config)

    @property
    def settings(self) -> dict[str, Any]:
        """What stored features depend on."""
        return self.config.model_dump(mode="json")

    def __call__(self, samples: Tensor) -> Tensor:
        """Features (T, F), float32, of one waveform: float32 (samples,) in -1..1, at the config's sample rate.

        Raises ValueError for a waveform that is shorter than the shift of a frame.
        """
        if samples.numel() < FRAME_SHIFT * self.config.sample_rate:
            raise ValueError(f"{samples.numel()} samples are less than one frame of {FRAME_SHIFT:g} s")
        with torch.no_grad():
            return self._compute(samples)


def chosen_engine(name: str) -> str:
    """The engine that ``name`` means on this machine. Raises ValueError where it is not installed."""
    installed = importlib.util.find_spec("kaldifeat") is not None
    if name == "auto":
        return "kaldifeat" if installed else "lhotse"
    if name == "kaldifeat" and not installed:
        raise ValueError("features.engine: kaldifeat is not installed; build it with 'make kaldifeat', or set the engine to auto or lhotse")
    return name


def _lhotse(config: Fbank.Config) -> Callable[[Tensor], Tensor]:
    from lhotse.features.kaldi.extractors import Fbank as LhotseFbank
    from lhotse.features.kaldi.extractors import FbankConfig

    extractor = LhotseFbank(FbankConfig(
        sampling_rate=config.sample_rate, num_filters=config.num_mel_bins, frame_length=FRAME_LENGTH, frame_shift=FRAME_SHIFT,
        dither=0.0, snip_edges=False,
    ))

    def compute(samples: Tensor) -> Tensor:
        features: Any = extractor.extract(samples, config.sample_rate)
        return features

    return compute


def _kaldifeat(config: Fbank.Config) -> Callable[[Tensor], Tensor]:
    import kaldifeat

    options = kaldifeat.FbankOptions()
    options.frame_opts.samp_freq = float(config.sample_rate)
    options.frame_opts.frame_length_ms = 1000 * FRAME_LENGTH
    options.frame_opts.frame_shift_ms = 1000 * FRAME_SHIFT
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = -400.0
    extractor = kaldifeat.Fbank(options)
    return lambda samples: extractor(samples)


ENGINES: dict[str, Callable[[Fbank.Config], Callable[[Tensor], Tensor]]] = {"lhotse": _lhotse, "kaldifeat": _kaldifeat}
"""Engine -> what makes a function from a waveform (samples,) to features (T, F)."""
