"""The extractor of a features directory: fitted to the training split, with the subwords that its units make."""
from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from torch import Tensor
from tqdm import tqdm

from asr.data.batches import derived_seed
from asr.data.loader import open_units, stored_features, waveform
from asr.data.manifests import read_cuts
from asr.features import Units
from asr.features.units import fit_extractor, fit_subwords

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


def prepare_extractor(cuts_path: Path, directory: Path, config: Units.Config, device: str = "cpu") -> None:
    """Writes into ``directory`` what makes units of audio, fitted to the audio of ``cuts_path`` where there is something to fit."""
    def audio() -> Iterator[tuple[str, Tensor]]:
        cuts = _chosen(read_cuts(cuts_path), config)
        return ((cut.id, waveform(cut, config.sample_rate)) for cut in tqdm(cuts, desc="clustering", unit="utt", delay=3))

    fit_extractor(config, directory, device, audio)


def _chosen(cuts: "list[MonoCut]", config: Units.Config) -> "list[MonoCut]":
    """In a random order, as many as there are in the hours that the config grants."""
    random.Random(derived_seed(config.extractor.seed, "units")).shuffle(cuts)
    seconds = 3600 * config.extractor.hours if config.extractor.hours is not None else float("inf")
    chosen = []
    for cut in cuts:
        if seconds <= 0:
            break
        chosen.append(cut)
        seconds -= cut.duration
    return chosen


def prepare_subwords(cuts_path: Path, config: Units.Config) -> None:
    """Trains the subwords of the units of ``cuts_path``, a manifest with units, and keeps them with the extractor."""
    every_frame = config.model_copy(update={"bpe": None})
    units = open_units(every_frame, cuts_path)
    assert units is not None
    sequences: "Iterator[Tensor]" = (stored_features(cut, every_frame, units) for cut in read_cuts(cuts_path))
    fit_subwords(config, units.directory, sequences)
