"""What makes discrete units of audio: made once for all experiments with its settings, and kept by each that was trained on it."""
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from asr.data import prepare_extractor, prepare_subwords
from asr.experiment import Layout, load_experiment
from asr.features import Units
from asr.features.units import ENCODER_FILE
from asr.files import atomic_dir, fingerprint, run_once, save_tensors
from asr.train.checkpoints import average_state


def make_extractor(layout: Layout, features: Units.Config, device: str) -> None:
    """Fits the extractor to the training split, unless it was fitted to it, with these settings and weights, before."""
    source: Any = getattr(features.extractor, "source", features.extractor)
    weights = getattr(source, "exp_dir", None) or Path(getattr(source, "model", ""))
    key = fingerprint(features.model_dump(mode="json", include={"extractor", "sample_rate"}),
                      *([layout.cuts("train")] if features.extractor.fitted else []),
                      *([weights / "checkpoints" if source.type == "encoder" else weights] if weights.name and weights.is_dir() else []))

    def build() -> None:
        with atomic_dir(layout.extractor(features)) as directory:
            if source.type == "encoder":
                pack_encoder(source.exp_dir, directory / ENCODER_FILE)
            prepare_extractor(layout.cuts("train"), directory, features, device)

    run_once(f"extractor of {features.extractor.name}", [layout.extractor(features)], key, build)


def make_subwords(layout: Layout, features: Units.Config) -> None:
    """Trains the subwords that the config asks for, on the units of the training split."""
    if features.subwords_file is not None:
        manifest = layout.stored(features, "train")
        path = layout.extractor(features) / features.subwords_file
        run_once(f"subwords {path.stem}", [path], fingerprint(manifest), lambda: prepare_subwords(manifest, features))


def pack_encoder(exp_dir: Path, path: Path) -> None:
    """Writes the averaged encoder of an experiment into one file, with the configs to rebuild it."""
    config = load_experiment(exp_dir)
    if config.features.discrete:
        raise ValueError(f"{exp_dir} was trained on units: features.extractor.source.exp_dir must be an experiment on fbank")
    if config.train.tune is not None:
        raise ValueError(f"{exp_dir} holds a part of a model only: make it a whole one by 'asr merge', or name {config.train.init_from}")
    weights = average_state(exp_dir, config.decode.average_epochs, config.decode.average)
    state = {name.removeprefix("encoder."): value for name, value in weights.items() if name.startswith("encoder.")}
    configs: dict[str, Any] = {"features": config.features.model_dump(mode="json"), "model": config.model.model_dump(mode="json")}
    save_tensors({"configs": json.dumps(configs), "state": state}, path)


def keep_units(layout: Layout) -> None:
    """Copies what makes the model's units into its experiment, which can then be used on other audio."""
    for units in layout.discrete:
        with atomic_dir(layout.own_extractor(units)) as directory:
            for path in layout.extractor(units).iterdir():
                if not path.name.startswith(".") and (path.suffix != ".model" or path.name == units.subwords_file):
                    shutil.copyfile(path, directory / path.name)


def check_units(layout: Layout) -> None:
    """Raises ValueError where the stored units are of another extractor, or of other subwords, than the model was trained on."""
    for units in layout.discrete:
        stored, own = layout.extractor(units), layout.own_extractor(units)
        if Units(units, stored).identity != Units(units, own).identity:
            raise ValueError(f"the model in {layout.exp} was trained on other units than those of {stored}, though their config is the "
                             f"same: put {own} in its place and run the stage of features again, or train again")
