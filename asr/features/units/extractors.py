"""From a waveform to discrete units, one row of ids per frame: intensities of Mel channels, clusters, or codes of a codec.

An extractor's ``Config`` says ``codebooks`` (Q), ``vocabulary`` (ids of each), ``frame_shift`` (seconds) and, where something must be
fitted before it can be used, ``fitted``. Called with a waveform (samples,), it gives int64 (T, Q). ``digest``: of its weights.
Shape legend: asr/types.py.
"""
from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Iterable, Iterator, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.features.fbank import FRAME_SHIFT, Fbank
from asr.features.units import kmeans
from asr.features.units.sources import SOURCES, check_sample_rate, from_pretrained, import_transformers, weights_digest
from asr.files import digest_of, load_tensors, save_tensors

CODEBOOKS_FILE = "codebooks.pt"

Audio = Callable[[], Iterable[tuple[str, Tensor]]]
"""Gives ids and waveforms (samples,) of the training split in a random order, the same with each call."""


class Extractor(Protocol):
    digest: str

    def __call__(self, samples: Tensor) -> Tensor: ...


class DMel:
    """Log Mel energies, each channel rounded to one of a few intensities: nothing is learnt, and little is lost.

    Bai et al., "dMel: Speech Tokenization Made Simple", arXiv 2407.15835; there the range is that of the corpus.
    """

    class Config(BaseConfig):
        """num_mel_bins: channels, each a codebook. intensities: bins of equal width between ``lowest`` and ``highest``, natural
        logarithms of energy, beyond which all is one bin; 99.9 % of the energies of speech lie between the defaults.
        """

        type: Literal["dmel"] = "dmel"
        num_mel_bins: int = Field(default=80, ge=4)
        intensities: int = Field(default=16, ge=2, le=256)
        lowest: float = -14.0
        highest: float = 4.0

        fitted: ClassVar[bool] = False

        @property
        def name(self) -> str:
            return f"dmel_{self.num_mel_bins}x{self.intensities}"

        @property
        def codebooks(self) -> int:
            return self.num_mel_bins

        @property
        def vocabulary(self) -> int:
            return self.intensities

        @property
        def frame_shift(self) -> float:
            return FRAME_SHIFT

    digest = ""

    def __init__(self, config: "DMel.Config", sample_rate: int, directory: Path, device: str) -> None:
        self.config = config
        self._fbank = Fbank(Fbank.Config(num_mel_bins=config.num_mel_bins, sample_rate=sample_rate))

    def __call__(self, samples: Tensor) -> Tensor:
        energies_TF = finite(self._fbank(samples))
        width = (self.config.highest - self.config.lowest) / self.config.intensities
        return ((energies_TF - self.config.lowest) / width).floor().clamp(0, self.config.intensities - 1).long()


class KMeans:
    """The nearest of the centres that k-means found; several codebooks refine one another."""

    class Config(BaseConfig):
        """clusters: of each codebook. codebooks: the second clusters what the first leaves, and so on (residual).
        hours: of the training split, chosen at random, that are clustered; null for all of it. seed: of choice and clustering.
        """

        type: Literal["kmeans"] = "kmeans"
        source: one_of(SOURCES)  # type: ignore[valid-type]
        clusters: int = Field(default=500, ge=2, le=65535)
        codebooks: int = Field(default=1, ge=1)
        hours: float | None = Field(default=20.0, gt=0)
        seed: int = 0

        fitted: ClassVar[bool] = True

        @property
        def name(self) -> str:
            return f"kmeans_{self.clusters}x{self.codebooks}_{self.source.name}"

        @property
        def vocabulary(self) -> int:
            return self.clusters

        @property
        def frame_shift(self) -> float:
            return float(self.source.frame_shift)

    def __init__(self, config: "KMeans.Config", sample_rate: int, directory: Path, device: str) -> None:
        self.source = SOURCES[config.source.type](config.source, sample_rate, directory, device)
        stored = load_tensors(directory / CODEBOOKS_FILE)
        self._codebooks_QKD = stored["codebooks"].to(device)
        if self._codebooks_QKD.shape[:2] != (config.codebooks, config.clusters):
            raise ValueError(f"{directory / CODEBOOKS_FILE}: codebooks and clusters are {tuple(self._codebooks_QKD.shape[:2])}, the config "
                             f"asks for {(config.codebooks, config.clusters)}: run the stage of features again")
        if stored["source"] != self.source.digest:
            raise ValueError(f"{directory / CODEBOOKS_FILE}: the clusters are of other weights than those of {config.source.name} now: "
                             f"restore them, or remove {directory.parent}, run the stage of features again and train anew")
        self.digest = digest_of({"codebooks": self._codebooks_QKD})

    def __call__(self, samples: Tensor) -> Tensor:
        frames_TD = finite(self.source(samples))
        if frames_TD.shape[1] != self._codebooks_QKD.shape[2]:
            raise ValueError(f"frames of {frames_TD.shape[1]} values, but centres of {self._codebooks_QKD.shape[2]}: fit them again")
        return kmeans.quantise(frames_TD, self._codebooks_QKD).cpu()

    @staticmethod
    def fit(config: "KMeans.Config", sample_rate: int, directory: Path, device: str, audio: Audio) -> None:
        """Writes the codebooks into ``directory``."""
        source = SOURCES[config.source.type](config.source, sample_rate, directory, device)

        def frames() -> Iterator[Tensor]:
            for id, samples in audio():
                try:
                    yield finite(source(samples))
                except ValueError as error:
                    raise ValueError(f"utterance '{id}': {error}") from None

        codebooks_QKD = kmeans.fit(frames, config.clusters, config.codebooks, config.seed)
        save_tensors({"codebooks": codebooks_QKD.cpu(), "source": source.digest}, directory / CODEBOOKS_FILE)


class Codec:
    """The first codebooks of a neural codec's residual quantiser, by the transformers library.

    Défossez et al., "High Fidelity Neural Audio Compression", arXiv 2210.13438 (EnCodec).
    """

    class Config(BaseConfig):
        """model: a local folder, or a name on the hub, of an EnCodec for one channel. The others must be the model's: ``codebooks`` at most
        as many, ``vocabulary`` of each, ``frame_shift`` in seconds.
        """

        type: Literal["codec"] = "codec"
        model: str = "facebook/encodec_24khz"
        codebooks: int = Field(default=8, ge=1)
        vocabulary: int = Field(default=1024, ge=2, le=65536)
        frame_shift: float = Field(default=1 / 75, gt=0)

        fitted: ClassVar[bool] = False

        @property
        def name(self) -> str:
            return f"{Path(self.model).name}_{self.codebooks}"

    def __init__(self, config: "Codec.Config", sample_rate: int, directory: Path, device: str) -> None:
        self._codec: Any = from_pretrained(import_transformers().EncodecModel, config.model)
        check_sample_rate(config.model, self._codec.config.sampling_rate, sample_rate)
        if self._codec.config.chunk_length_s is not None or self._codec.config.audio_channels != 1:
            raise ValueError(f"{config.model}: encodes two channels in chunks; take a model for one channel, as facebook/encodec_24khz")
        shift = math.prod(self._codec.config.upsampling_ratios) / sample_rate
        actual = (len(self._codec.quantizer.layers), self._codec.config.codebook_size)
        if config.codebooks > actual[0] or config.vocabulary != actual[1] or not math.isclose(config.frame_shift, shift, rel_tol=1e-4):
            raise ValueError(f"{config.model}: {actual[0]} codebooks of {actual[1]} ids, a frame every {shift:g} s; set codebooks (at most "
                             "so many), vocabulary and frame_shift of features.extractor to that")
        self._codebooks, self._device = config.codebooks, device
        self.digest = weights_digest(self._codec)
        self._codec.to(device).eval()

    def __call__(self, samples: Tensor) -> Tensor:
        with torch.no_grad():
            embedded_1DT = self._codec.encoder(finite(samples).view(1, 1, -1).to(self._device))
            codes_Q1T = torch.as_tensor(self._codec.quantizer.encode(embedded_1DT, self._codec.config.target_bandwidths[-1]))
        return codes_Q1T[: self._codebooks, 0].T.long().cpu()


EXTRACTORS: dict[str, Any] = {"dmel": DMel, "kmeans": KMeans, "codec": Codec}
if TYPE_CHECKING:
    ExtractorConfig = Any
else:
    ExtractorConfig = one_of(EXTRACTORS)


def finite(values: Tensor) -> Tensor:
    """The same. Raises ValueError where they hold what is not a number."""
    if not bool(torch.isfinite(values).all()):
        raise ValueError("values that are not numbers (NaN or infinite), in the audio or computed from it")
    return values
