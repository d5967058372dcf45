"""Time of an epoch of training, for configs beside each other: different input, and whatever else they differ in.

    asr bench training conf/tdt.yaml conf/zipformer.yaml --data-dir data
    asr bench training                                        # of egs/numbers: fbank, units, without repetitions, subwords

Features and tokens must be there (stages 1 to 3). Batches of each config's first epoch are loaded and taken through a whole step, the
configs taking turns; in CPU time, on one thread. An epoch is what all its audio would take at that rate, validation and checkpoints apart.
"""
from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Iterator

import torch

from asr.config import load_config
from asr.data import read_cuts, training_loader
from asr.experiment import ExperimentConfig, Layout, beside, experiment_losses, start_model, unusable
from asr.tokens import load_tokenizer
from asr.train import Trainer
from asr.train.step import Piece, seed_everything
from asr.types import Batch

NUMBERS = Path("egs/numbers")
STEP = 10_000
"""Its number: losses and encoders have warmed up."""


@dataclass
class Run:
    """A config under measurement. Seconds of CPU time and of audio, frames that the model read, padded too, and encoder frames."""

    config: ExperimentConfig
    trainer: Trainer
    batches: Iterator[Batch]
    hours: float
    spent: list[float] = field(default_factory=list)
    audio: float = 0.0
    frames: int = 0
    padded: int = 0
    encoded: int = 0

    def step(self, index: int) -> None:
        """Takes one step. The first is not counted: it loads what all others share."""
        started = time.process_time()
        batch = next(self.batches)
        result = self.trainer.step([Piece(batch, (self.config.seed, 0, index))], STEP, 0, lr=0.0)
        if index:
            self.spent.append(time.process_time() - started)
            self.audio += result.audio_seconds
            self.frames += result.feature_frames
            self.padded += result.padded_frames
            self.encoded += result.frames

    @property
    def epoch(self) -> float:
        return sum(self.spent) / self.audio * 3600 * self.hours


def open_run(path: Path, overrides: list[str], data_dir: Path, scratch: Path) -> Run:
    config: Any = load_config(ExperimentConfig, path, overrides)
    layout = Layout(config, data_dir, scratch / config.name)
    tokenizer = load_tokenizer(layout.lang)
    seed_everything(config.seed)
    model, _ = start_model(config, tokenizer)
    trainer = Trainer(config.train, model, experiment_losses(config, model, tokenizer), layout.exp, seed=config.seed)
    trainer.model.train()
    trainer.losses.train()
    exclude = {item.id for item in unusable(config, layout, "train", tokenizer, model)}
    batches = training_loader(layout.features("train"), config.train.batches, config.features, tokenizer, seed=config.seed, epoch=0,
                              exclude=exclude, beside=beside(config, layout, "train", targets=True))
    hours = sum(cut.duration for cut in read_cuts(layout.features("train"))) / 3600
    return Run(config, trainer, (batch for loader in cycle([batches]) for batch in loader), hours)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configs", nargs="*", type=Path, help="the first is what the others are compared with",
                        default=[NUMBERS / f"conf/{name}.yaml" for name in ("tdt", "kmeans_tdt", "kmeans_dedup_tdt", "kmeans_bpe_tdt")])
    parser.add_argument("--data-dir", type=Path, default=NUMBERS / "data", help=f"manifests, features, tokens (default: {NUMBERS}/data)")
    parser.add_argument("--steps", type=int, default=30, help="of each config (default: 30)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="changes a value of all configs")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    overrides = ["train.threads=1", "train.device=cpu", "train.batches.workers=0", "train.init_from=null", *args.overrides]
    with tempfile.TemporaryDirectory() as scratch:
        runs = [open_run(path, overrides, args.data_dir, Path(scratch)) for path in args.configs]
        for index in range(args.steps + 1):
            for each in runs:
                each.step(index)
    print(f"{'config':<24}{'input frames/s':>15}{'encoder frames/s':>18}{'padding':>9}{'ms per step':>13}{'s per epoch':>13}{'times':>8}")
    for each in runs:
        print(f"{each.config.name:<24}{each.frames / each.audio:>15.1f}{each.encoded / each.audio:>18.1f}"
              f"{1 - each.frames / each.padded:>9.1%}{1e3 * sum(each.spent) / len(each.spent):>13.1f}{each.epoch:>13.1f}"
              f"{runs[0].epoch / each.epoch:>7.2f}x")
