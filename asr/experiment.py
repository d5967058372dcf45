"""An experiment: its config, where its files lie, and how its parts are built from the two.

The resolved config in ``exp/<name>/config.yaml`` is all that decoding, export and transcription need.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Iterable, Literal, Sequence

import torch
from pydantic import model_validator
from torch import Tensor

from asr.config import Config, load_config
from asr.data import Beside, CorpusConfig, Dropped, check_targets, count_frames, read_cuts, training_cuts
from asr.data.loader import EXTRACTOR, open_units, stored_features
from asr.decode import DecodeConfig
from asr.decode.modified_beam import ModifiedBeam
from asr.features import FEATURES, Fbank, FeaturesConfig
from asr.files import digest_of
from asr.lang import LangConfig
from asr.lm import NgramConfig
from asr.losses import LossConfig, Losses, build_losses
from asr.losses.mwer import Candidate
from asr.models.adapters import load_trained, merge, tune
from asr.models.transducer import Transducer
from asr.score.errors import align, count
from asr.tokens import Tokenizer, TokensConfig, load_tokenizer
from asr.train import TrainConfig
from asr.train.checkpoints import CheckpointStore, average_state
from asr.train.initial import initialise
from asr.train.text import LmConfig
from asr.types import EncoderOut, Targets, UnitSpace


class ExperimentConfig(Config):
    """Everything a run depends on. One YAML file; ``exp/<name>/config.yaml`` holds it resolved.

    units: discrete units beside the features, which a frontend puts beside each frame, a context reads of the neighbours, and an ``mvq``
        loss predicts, whichever there are. Without them, context and ``mvq`` mean the features, which then are units themselves.
    """

    name: str
    seed: int = 42
    corpus: CorpusConfig
    features: FeaturesConfig = Fbank.Config()  # type: ignore[valid-type]
    units: FeaturesConfig | None = None  # type: ignore[valid-type]
    tokens: TokensConfig
    lang: LangConfig = LangConfig()
    ngram: NgramConfig = NgramConfig()
    lms: dict[str, LmConfig] = {}
    model: Transducer.Config
    losses: dict[str, LossConfig]
    train: TrainConfig = TrainConfig()
    decode: DecodeConfig = DecodeConfig()

    @model_validator(mode="after")
    def _two_copies_to_compare(self) -> "ExperimentConfig":
        if self.train.batches.copies == 1 and any(loss.type == "cr_ctc" for loss in self.losses.values()):
            raise ValueError("losses: cr_ctc compares two copies of each utterance: set train.batches.copies: 2")
        return self

    @model_validator(mode="after")
    def _composes_on_the_fly_over_unigrams(self) -> "ExperimentConfig":
        for name, search in self.decode.searches.items():
            ngram = getattr(search, "ngram", None)
            if ngram is not None and ngram.on_the_fly and self.lang.graph_order != 1:
                raise ValueError(f"search '{name}' composes on the fly, which wants graphs of unigrams: set lang.graph_order=1")
        return self

    @model_validator(mode="before")
    @classmethod
    def _no_masks_of_bins_on_units(cls, values: Any) -> Any:
        """SpecAugment is the default, but not of units."""
        if not isinstance(values, dict) or not isinstance(values.get("features"), dict):
            return values
        features = FEATURES.get(str(values["features"].get("type")))
        if features is None or not features.Config.discrete:
            return values
        train = values.get("train") or {}
        return {**values, "train": {**train, "batches": {"spec_augment": None, **(train.get("batches") or {})}}}

    @model_validator(mode="after")
    def _units_are_units(self) -> "ExperimentConfig":
        if self.units is not None and not self.units.discrete:
            raise ValueError("units: these are discrete units beside the features, and 'fbank' has none")
        return self


@dataclass(frozen=True)
class Layout:
    """The only place that composes file names: see the table at the end of docs/architecture.md."""

    config: ExperimentConfig
    data: Path
    exp: Path

    @property
    def manifests(self) -> Path:
        return self.data / "manifests"

    def cuts(self, split: str) -> Path:
        return self.manifests / f"{split}.jsonl.gz"

    def features(self, split: str) -> Path:
        """Cuts to load for training and decoding: those with stored features, or the plain ones where features are made on the fly."""
        return self.stored(self.config.features, split) if self.config.features.stored else self.cuts(split)

    def stored(self, features: Any, split: str) -> Path:
        """Cuts with stored features of this config."""
        return self.data / features.name / f"{split}.jsonl.gz"

    def units(self, split: str) -> Path:
        """Cuts with the units beside the features."""
        return self.stored(self.config.units or self.config.features, split)

    def shar(self, split: str) -> Path:
        """Shards of a split, where they were written."""
        return self.data / f"shar_{self.config.features.name if self.config.features.stored else 'audio'}" / split

    @property
    def discrete(self) -> list[Any]:
        """Configs of the units that the model reads: of its features, and of what is beside them."""
        return [config for config in (self.config.features, self.config.units) if config is not None and config.discrete]

    def extractor(self, units: Any) -> Path:
        """What makes these units of audio, beside their manifests."""
        return self.data / units.name / EXTRACTOR

    def own_extractor(self, units: Any) -> Path:
        """The experiment's own copy of it."""
        return self.exp / "units" / units.name

    @property
    def lang(self) -> Path:
        return self.data / f"lang_{self.config.tokens.name}{'_subwords' if self.config.lang.subwords else ''}"

    def lm(self, name: str) -> Path:
        """The experiment of a neural language model, which belongs to the tokens, as n-grams do."""
        return self.lang / name

    @property
    def tokens(self) -> Path:
        """The experiment's own copy of the tokenizer."""
        return self.exp / "tokens"

    @property
    def config_file(self) -> Path:
        return self.exp / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.exp / "checkpoints"

    @property
    def calibration(self) -> Path:
        return self.exp / "decode" / "calibration.json"

    @property
    def unfinished(self) -> Path:
        """There as long as training has not come to its end."""
        return self.exp / "unfinished"

    def decode(self, split: str) -> Path:
        return self.exp / "decode" / split

    def align(self, name: str) -> Path:
        """Alignments of a split's transcripts, or of what a search made of it (``<split>.<search>``)."""
        return self.exp / "align" / name

    @property
    def tuned(self) -> Path:
        return self.exp / "decode" / "tuned.json"


def build_model(config: ExperimentConfig, tokenizer: Tokenizer) -> Transducer:
    """Raises ValueError where the model has parts for units that the config does not name, or the reverse."""
    own, beside = (unit_space(features) for features in (config.features, config.units))
    if beside is not None and mixed(config):
        return Transducer(config.model, config.features.dim + beside.codebooks, tokenizer.vocab_size, beside)
    return Transducer(config.model, config.features.dim, tokenizer.vocab_size, own, beside)


def unit_space(features: Any) -> UnitSpace | None:
    return UnitSpace(features.codebooks, features.vocabulary) if features is not None and features.discrete else None


def mixed(config: ExperimentConfig) -> bool:
    """Whether each frame of features has units beside it."""
    return config.units is not None and config.model.frontend is not None and not config.features.discrete


def beside(config: ExperimentConfig, layout: Layout, split: str, targets: bool) -> Beside | None:
    """The units that batches of a split carry beside their features, None where nothing wants any. targets: with what losses predict."""
    context: Any = config.model.context
    codes = targets and any(loss.type == "mvq" for loss in config.losses.values())
    past, future = (context is not None and getattr(context, side) for side in ("past", "future"))
    if not (mixed(config) or codes or past or future):
        return None
    units: Any = config.units or config.features
    if mixed(config) and not getattr(units, "every_frame", True):
        raise ValueError("units: beside each frame of the features stands a unit of its time: set deduplicate to false, and bpe to null")
    reader = open_units(units, layout.units(split))
    assert reader is not None

    def load(cut: Any) -> torch.Tensor:
        return reader.view(stored_features(cut, units, reader)).units_TQ

    return Beside(
        layout.units(split), load, UnitSpace(units.codebooks, units.vocabulary),
        input=config.features.frame_shift / units.frame_shift if mixed(config) else None, codes=codes, past=past, future=future,
    )


def start_model(config: ExperimentConfig, tokenizer: Tokenizer) -> tuple[Transducer, str]:
    """The model before the first step, and a digest of the weights that it got from ``train.init_from`` (empty without).

    Raises ValueError where these do not fit, and where ``train.tune`` would leave a part of the model untrained.
    """
    model = build_model(config, tokenizer)
    if config.train.init_from is None:
        return model, ""
    other = Path(config.train.init_from)
    state, symbols = _whole_state(other), load_tokenizer(other / "tokens").symbols
    fresh = initialise(model, state, symbols=tokenizer.symbols, state_symbols=symbols, where=str(other))
    if config.train.tune is not None:
        tune(model, config.train.tune, fresh)
    return model, digest_of(state)[:16]


def trained_model(config: ExperimentConfig, exp_dir: Path, tokenizer: Tokenizer) -> Transducer:
    """The model of a trained experiment, averaged as ``config.decode`` says; a tuned one with the model it was made of.

    Raises ValueError where there are no such weights, and where those that were tuned have changed since.
    """
    state = average_state(exp_dir, config.decode.average_epochs, config.decode.average)
    if config.train.tune is None:
        model = build_model(config, tokenizer)
    else:
        model, digest = start_model(config, tokenizer)
        newest: Any = CheckpointStore(exp_dir / "checkpoints", config.train.checkpoints).newest()
        if newest["identity"].get("initial weights") != digest:
            raise ValueError(f"{exp_dir}: what was tuned are weights that {config.train.init_from} does not have any more; tune them anew")
    try:
        load_trained(model, state)
    except RuntimeError as error:
        raise ValueError(f"{exp_dir}: the weights are not of this config's model: {error}") from None
    merge(model)
    return model


def _whole_state(exp_dir: Path) -> dict[str, Tensor]:
    """Averaged weights to start from; with those they were tuned from where they are a part only."""
    path = exp_dir / "config.yaml"
    tuned = load_config(ExperimentConfig, path) if path.exists() else None
    if tuned is None or tuned.train.tune is None:
        return average_state(exp_dir)
    if tuned.train.tune.type == "adapters":
        raise ValueError(f"init_from: {exp_dir} has adapters, for which other models have no place; start from {tuned.train.init_from}")
    return dict(trained_model(tuned, exp_dir, load_tokenizer(exp_dir / "tokens")).state_dict())


def experiment_losses(config: ExperimentConfig, model: Transducer, tokenizer: Tokenizer) -> Losses:
    return build_losses(config.losses, model, SearchedCandidates(model, tokenizer))


class SearchedCandidates:
    """What ``mwer`` has the model choose from: the results of a modified beam search with the weights as they are now."""

    def __init__(self, model: Transducer, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    def __call__(self, encoder_out: EncoderOut, targets: Targets, beam: int, unit: Literal["words", "tokens"]) -> list[list[Candidate]]:
        predictor = self.model.predictor
        training = predictor.training
        predictor.eval()
        frames_BSD = encoder_out.frames_BSD.detach().to(next(predictor.parameters()).dtype)
        # A search keeps tables made of the weights, so each is a new one; and it is no place for half precision.
        with torch.autocast(frames_BSD.device.type, enabled=False):
            search = ModifiedBeam(ModifiedBeam.Config(beam=beam), self.model, self.tokenizer)
            found = search.decode(EncoderOut(frames_BSD, encoder_out.lens_B))
        predictor.train(training)
        return [
            [Candidate(h.tokens, count(align(self._units(tokens, unit), self._units(h.tokens, unit))).errors) for h in hypotheses]
            for tokens, hypotheses in zip(targets.to_lists(), found)
        ]

    def _units(self, tokens: Sequence[int], unit: Literal["words", "tokens"]) -> list[str]:
        return self.tokenizer.decode(list(tokens)).split() if unit == "words" else [str(token) for token in tokens]


def load_experiment(exp_dir: Path, overrides: list[str] | None = None) -> ExperimentConfig:
    """The resolved config of an experiment directory, with overrides on top."""
    path = exp_dir / "config.yaml"
    if not path.exists():
        raise ValueError(f"{exp_dir}: no trained experiment here (config.yaml is missing); run 'asr train' first")
    return load_config(ExperimentConfig, path, overrides or [])


def experiment_tokenizer(layout: Layout) -> Tokenizer:
    """The tokenizer an experiment was trained with, or that of the language directory before training."""
    directory: Any = layout.tokens if layout.tokens.is_dir() else layout.lang
    return load_tokenizer(directory)


def split_cuts(config: ExperimentConfig, layout: Layout, split: str) -> Iterable[Any]:
    """The cuts of a split; those of ``train`` from its shards where the config names them."""
    path = layout.features(split)
    return training_cuts(path, config.train.batches) if split == "train" else read_cuts(path)


def unusable(config: ExperimentConfig, layout: Layout, split: str, tokenizer: Tokenizer, model: Transducer) -> list[Dropped]:
    """Utterances of a split that no loss can align or no token can spell."""
    @cache
    def encoder_frames(frames: int) -> int:
        return int(model.encoder.frames_out(torch.tensor([frames])))

    frames = count_frames(layout.features(split), config.features)
    return check_targets(split_cuts(config, layout, split), split, frames, tokenizer, encoder_frames)
