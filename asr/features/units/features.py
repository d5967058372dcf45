"""Units as features of a config: an extractor, and how the model reads what it gives.

Stored is what the extractor gives, one row per frame. Without repetitions, or as subwords, units are read when a batch is loaded, so
one extraction serves every experiment, and which frame each unit begins at is always known.

    <directory>/extractor.yaml     what the extractor is, with the fingerprint of its weights
    <directory>/codebooks.pt       where it was fitted (and encoder.pt, if to a layer of an encoder trained here)
    <directory>/bpe_1000.model     subwords, where an experiment reads them

Shape legend: asr/types.py; Q codebooks.
"""
from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Iterable, Literal, NamedTuple, Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor

from asr.config import Config as BaseConfig
from asr.config import dump_config, read_yaml, validate
from asr.features.units.extractors import EXTRACTORS, Audio, DMel, Extractor, ExtractorConfig
from asr.features.units.subwords import Kind, UnitSubwords
from asr.files import atomic_write, fingerprint

MANIFEST = "extractor.yaml"


class UnitView(NamedTuple):
    """Units as a model reads them.

    units_TQ: int64 (T, Q), each id in 0..vocabulary-1.
    starts_T: int64 (T + 1,), the frame at which each unit begins, and then the number of frames: times the frame shift, its seconds.
    """

    units_TQ: Tensor
    starts_T: Tensor


class Units:
    """Discrete units of audio, by an extractor in ``directory`` (see :func:`write_manifest` and the stage of features)."""

    class Config(BaseConfig):
        """extractor: what makes units of audio. sample_rate: of the audio, in Hz; the extractor's and the corpus's.
        deduplicate: of equal units in a row, the model reads one.
        bpe: number of subwords (of units, without repetitions if ``deduplicate``) that the model reads instead; for one codebook.
        bpe_model: how sentencepiece finds them.
        """

        type: Literal["units"] = "units"
        extractor: ExtractorConfig = DMel.Config()
        sample_rate: int = Field(default=16000, ge=2000)
        deduplicate: bool = False
        bpe: int | None = Field(default=None, ge=3, le=65536)
        bpe_model: Kind = "bpe"
        stored: Literal[True] = True

        discrete: ClassVar[bool] = True

        @model_validator(mode="after")
        def _consistent(self) -> "Units.Config":
            if self.bpe is not None and self.extractor.codebooks != 1:
                raise ValueError(f"bpe: subwords are runs of single units, and the extractor has {self.extractor.codebooks} codebooks: "
                                 "take one, or leave bpe out")
            if self.bpe is not None and self.bpe <= self.extractor.vocabulary:
                raise ValueError(f"bpe: {self.bpe} subwords cannot hold the {self.extractor.vocabulary} units themselves: take more")
            return self

        @property
        def name(self) -> str:
            """Name of the directory that holds them: what is stored does not depend on how it is read."""
            return f"units_{self.extractor.name}"

        @property
        def codebooks(self) -> int:
            return int(self.extractor.codebooks)

        @property
        def dim(self) -> int:
            return self.codebooks

        @property
        def vocabulary(self) -> int:
            """Ids per codebook that the model reads: 0 up to but without this."""
            return int(self.extractor.vocabulary if self.bpe is None else self.bpe)

        @property
        def frame_shift(self) -> float:
            """Seconds from one frame of the extractor to the next."""
            return float(self.extractor.frame_shift)

        @property
        def padding_value(self) -> int:
            return -1

        @property
        def settings(self) -> dict[str, Any]:
            """What the units of audio depend on, beside the weights; where those lie is not among it."""
            source = {"model", "exp_dir"}
            return self.model_dump(mode="json", include={"type", "extractor", "sample_rate"},
                                   exclude={"extractor": {"model": True, "source": source}})

        @property
        def every_frame(self) -> bool:
            """Whether a unit is a frame."""
            return not self.deduplicate and self.bpe is None

        @property
        def subwords_file(self) -> str | None:
            """Name of the file of subwords, which depend on ``deduplicate`` too."""
            return None if self.bpe is None else f"{self.bpe_model}_{self.bpe}{'_deduplicated' if self.deduplicate else ''}.model"

        def num_frames(self, num_samples: int) -> int:
            """At most so many units."""
            return math.ceil(num_samples / (self.frame_shift * self.sample_rate))

    def __init__(self, config: "Units.Config", directory: Path, device: str = "cpu") -> None:
        """Raises ValueError where ``directory`` holds no extractor, or another one than the config's."""
        self.config, self.directory, self._device = config, directory, device
        self.manifest = Manifest.read(directory)
        if Units.Config(extractor=self.manifest.extractor, sample_rate=self.manifest.sample_rate).settings != config.settings:
            raise ValueError(f"{directory / MANIFEST}: its extractor is not that of the config: run the stage of features again")

    @property
    def kind(self) -> str:
        """What the features of a cut are said to be: by it, units of different extractors are told apart."""
        return f"units-{self.manifest.fingerprint[:16]}"

    @property
    def settings(self) -> dict[str, Any]:
        """What stored units depend on."""
        return {**self.config.settings, "kind": self.kind}

    @cached_property
    def extractor(self) -> Extractor:
        """Loaded when first used: who reads stored units does not need it."""
        extractor = open_extractor(self.config, self.directory, self._device)
        if fingerprint(self.config.settings, extractor.digest) != self.manifest.fingerprint:
            raise ValueError(f"{self.directory / MANIFEST}: its units are of other weights than '{self.config.extractor.name}' has now: "
                             f"restore them, or remove {self.directory.parent}, run the stage of features again and train anew")
        return extractor

    def __call__(self, samples: Tensor) -> Tensor:
        """int64 (T, Q): the units of every frame of one waveform, float32 (samples,) in -1..1 at the config's sample rate.

        Raises ValueError for a waveform that is too short for one frame, and for what are not numbers.
        """
        return self.extractor(samples)

    @cached_property
    def subwords(self) -> UnitSubwords | None:
        if self.config.subwords_file is None:
            return None
        path = self.directory / self.config.subwords_file
        if not path.exists():
            raise ValueError(f"{path}: no such file; run the stage of features, which makes it")
        return UnitSubwords(path.read_bytes())

    @property
    def identity(self) -> str:
        """Fingerprint of all that the ids a model reads depend on."""
        subwords = "" if self.subwords is None else self.subwords.model.hex()
        return fingerprint(self.manifest.fingerprint, self.config.deduplicate, subwords)

    def view(self, units_TQ: Tensor) -> UnitView:
        """The units of every frame as the model reads them."""
        units_TQ, starts_T = units_TQ.long(), torch.arange(len(units_TQ) + 1)
        if self.config.deduplicate:
            changes_T = torch.ones(len(units_TQ), dtype=torch.bool)  # torch.unique_consecutive takes five times as long
            changes_T[1:] = (units_TQ[1:] != units_TQ[:-1]).any(1)
            starts_T = torch.cat((starts_T[:-1][changes_T], starts_T[-1:]))
            units_TQ = units_TQ[changes_T]
        if self.subwords is not None:
            ids = self.subwords.encode(units_TQ[:, 0].tolist())
            ends = torch.tensor([0, *(len(self.subwords.units[id]) for id in ids)]).cumsum(0)
            units_TQ, starts_T = torch.tensor(ids).unsqueeze(1), starts_T[ends]
        return UnitView(units_TQ, starts_T)


class Manifest(BaseConfig):
    """What ``extractor.yaml`` says. fingerprint: of the extractor's config and weights."""

    extractor: ExtractorConfig
    sample_rate: int
    codebooks: int
    vocabulary: int
    frame_shift: float
    fingerprint: str

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        path = directory / MANIFEST
        if not path.exists():
            raise ValueError(f"{path}: no extractor of units here; run the stage of features")
        return validate(cls, read_yaml(path), where=str(path))


def open_extractor(config: Units.Config, directory: Path, device: str) -> Extractor:
    extractor: Extractor = EXTRACTORS[config.extractor.type](config.extractor, config.sample_rate, directory, device)
    return extractor


def fit_extractor(config: Units.Config, directory: Path, device: str, audio: Audio) -> None:
    """Fits what is to be fitted, and writes all that the units depend on into ``directory``."""
    if config.extractor.fitted:
        EXTRACTORS[config.extractor.type].fit(config.extractor, config.sample_rate, directory, device, audio)
    extractor = open_extractor(config, directory, device)
    dump_config(Manifest(
        extractor=config.extractor, sample_rate=config.sample_rate, codebooks=config.codebooks, vocabulary=config.extractor.vocabulary,
        frame_shift=config.frame_shift, fingerprint=fingerprint(config.settings, extractor.digest),
    ), directory / MANIFEST)


def fit_subwords(config: Units.Config, directory: Path, sequences: Iterable[Tensor]) -> None:
    """Trains the subwords of the config. sequences: (T, 1), the units of every frame of the training split's utterances."""
    assert config.bpe is not None and config.subwords_file is not None
    plain = Units(config.model_copy(update={"bpe": None}), directory)
    units: Iterable[Sequence[int]] = (plain.view(sequence).units_TQ[:, 0].tolist() for sequence in sequences)
    subwords = UnitSubwords.train(units, config.extractor.vocabulary, config.bpe, config.bpe_model)
    with atomic_write(directory / config.subwords_file, "wb") as file:
        file.write(subwords.model)
