"""Measure discrete units without training on them: agreement with an alignment, edit distance under changes of the audio, bitrate, usage.

    asr unit-quality conf/dmel.yaml conf/kmeans.yaml --split dev --ctm phones.ctm
    asr unit-quality conf/dmel.yaml --split dev --ctm exp/tdt/align/dev/tokens.ctm      # as 'asr align' wrote it

Prints a table with a row for each config, whose units must be there (stage 2), and writes it and a plot of it to data/unit_quality.*.
"""
from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from asr.config import load_config
from asr.data import perturb, read_cuts
from asr.data.loader import open_units, stored_features, waveform
from asr.experiment import ExperimentConfig, Layout
from asr.files import atomic_path, atomic_write
from asr.score.report import table
from asr.score.units import Alignment, agreement, edit_distance, plot, rate, read_ctm

CHANGES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "noise 20 dB": lambda samples, sample_rate: perturb.noisy(samples, 20, seed=0),
    "noise 10 dB": lambda samples, sample_rate: perturb.noisy(samples, 10, seed=0),
    "speed 0.9": lambda samples, sample_rate: perturb.faster(samples, 0.9),
    "speed 1.1": lambda samples, sample_rate: perturb.faster(samples, 1.1),
    "pitch -2": lambda samples, sample_rate: perturb.pitched(samples, -2, sample_rate),
    "pitch +2": lambda samples, sample_rate: perturb.pitched(samples, 2, sample_rate),
}
"""Waveform and its rate -> waveform; pitch in semitones."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", nargs="+", type=Path, help="configs whose features are units")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="manifests and features (default: data)")
    parser.add_argument("--split", default="dev", help="which split to measure on (default: dev)")
    parser.add_argument("--utterances", type=int, default=200, help="how many of its utterances, evenly spread (default: 200)")
    parser.add_argument("--ctm", help="alignment: lines of 'utterance channel start duration label', the times from the utterance's start")


def run(args: argparse.Namespace) -> None:
    alignments = read_ctm(args.ctm) if args.ctm else {}
    rows = [measure(load_config(ExperimentConfig, path), args, alignments) for path in args.configs]
    header = list(rows[0])
    print(table([header, *([_cell(row.get(key)) for key in header] for row in rows)]))
    with atomic_write(args.data_dir / "unit_quality.json") as file:
        json.dump(rows, file, indent=1)
    with atomic_path(args.data_dir / "unit_quality.png") as picture:
        plot(rows, list(CHANGES), picture)
    print(f"\nedit distances in % of the units, repetitions left out; {args.data_dir}/unit_quality.json and .png")


def measure(config: ExperimentConfig, args: argparse.Namespace, alignments: dict[str, Alignment]) -> dict[str, Any]:
    """A row of the table."""
    features, manifest = config.features, Layout(config, args.data_dir, Path("exp")).features(args.split)
    if not features.discrete:
        raise ValueError(f"{config.name}: its features are numbers; this measures units")
    units: Any = open_units(features, manifest)
    cuts = read_cuts(manifest)
    chosen = cuts[:: max(1, len(cuts) // args.utterances)][: args.utterances]
    frames = [stored_features(cut, features, units) for cut in chosen]
    views = [units.view(matrix).units_TQ.numpy() for matrix in frames]
    found = rate(views, features.vocabulary, sum(cut.duration for cut in chosen))
    row: dict[str, Any] = {"units": config.name, "per second": found.units, "bits by vocabulary": found.bits_by_vocabulary,
                           "bits by entropy": found.bits_by_entropy, "usage": found.usage}
    if alignments:
        row.update(_agreement(chosen, frames, features.frame_shift, alignments))
    changed: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in CHANGES}
    for cut in tqdm(chosen, desc=config.name, unit="utt", delay=3):
        samples = waveform(cut, features.sample_rate)
        clean = units(samples).numpy()
        for name, change in CHANGES.items():
            changed[name].append((clean, units(change(samples, features.sample_rate)).numpy()))
    return {**row, **{name: 100 * edit_distance(pairs) for name, pairs in changed.items()}}


def _agreement(cuts: list[Any], frames: list[Tensor], frame_shift: float, alignments: dict[str, Alignment]) -> dict[str, float]:
    """Of the middles of frames that have a label; over codebooks, the mean."""
    pairs = [
        (row, label) for cut, matrix in zip(cuts, frames) if cut.id in alignments for k, row in enumerate(matrix)
        if (label := alignments[cut.id].at((k + 0.5) * frame_shift)) is not None
    ]
    units_NQ = torch.stack([row for row, _ in pairs]) if pairs else torch.zeros(0, 1)
    measured = [asdict(agreement(column.tolist(), [label for _, label in pairs])) for column in units_NQ.T]
    return {name.replace("_", " "): float(np.mean([each[name] for each in measured])) for name in measured[0]}


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
