"""Find bad transcripts: the training utterances with the highest loss per token under the averaged model.

    asr outliers --exp-dir exp/conformer               # -> exp/conformer/outliers.tsv
    asr outliers --exp-dir exp/conformer --split dev --count 1000

The loss is the config's, without augmentation. Beside it stands what the model hears, by the config's first search.
"""
from __future__ import annotations

import argparse
import csv
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Iterable, Iterator

import torch
from tqdm import tqdm

from asr.cli.program import config_arguments, open_experiment
from asr.cli.recogniser import load_recogniser, recogniser_arguments
from asr.data import BatchConfig, training_loader
from asr.decode import build_search, to_text
from asr.experiment import beside, experiment_losses, unusable
from asr.files import atomic_write
from asr.train.checkpoints import CheckpointConfig, CheckpointStore
from asr.types import Batch

SHOWN = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outlier:
    """loss_per_token: inf where the transcript cannot be aligned. duration: seconds. heard: what the search found."""

    id: str
    loss_per_token: float
    duration: float
    tokens: int
    text: str
    heard: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--split", default="train", help="which split to look into (default: train)")
    parser.add_argument("--count", type=int, default=200, help="how many utterances to list (default: 200)")
    recogniser_arguments(parser)
    parser.add_argument("--workers", type=int, default=0, help="processes that load features (default: 0, load in this one)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    if args.split not in config.corpus.splits:
        raise ValueError(f"--split: '{args.split}' is not a split of the config's corpus; it has {', '.join(config.corpus.splits)}")
    recogniser = load_recogniser(config, layout, args.device, args.partial)
    exclude = {item.id for item in unusable(config, layout, args.split, recogniser.tokenizer, recogniser.model)}
    if exclude:
        log.warning("%d utterances were of no use in training and have no loss: see %s", len(exclude), layout.exp / "problems.jsonl")
    shar = config.train.batches.shar if args.split == "train" else None
    plain = BatchConfig(max_duration=config.decode.max_duration, workers=args.workers, spec_augment=None, shar=shar)
    loader = training_loader(layout.features(args.split), plain, config.features, recogniser.tokenizer, seed=0, epoch=0, exclude=exclude,
                             beside=beside(config, layout, args.split, targets=True))
    found = sorted(_measured(config, layout, recogniser, tqdm(loader, desc=f"losses of {args.split}", unit="batch", disable=None)),
                   key=lambda outlier: (-outlier.loss_per_token, outlier.id))
    listed = layout.exp / "outliers.tsv"
    write(listed, found[: args.count])
    for outlier in found[: min(SHOWN, args.count)]:
        print(f"{outlier.loss_per_token:8.2f}  {outlier.id}\n{'':10}text:  {outlier.text}\n{'':10}heard: {outlier.heard}")
    median = found[len(found) // 2].loss_per_token
    print(f"\nloss per token of {len(found)} utterances: median {median:.2f}; the highest {min(args.count, len(found))}: {listed}")


@torch.no_grad()
def _measured(config: Any, layout: Any, recogniser: Any, batches: Iterable[Batch]) -> Iterator[Outlier]:
    newest = CheckpointStore(layout.checkpoints, CheckpointConfig()).newest()
    assert newest is not None, "load_recogniser read it"
    losses = experiment_losses(config, recogniser.model, recogniser.tokenizer).to(next(recogniser.model.parameters()).device).eval()
    losses.load_state_dict(newest["losses"])
    search = build_search(next(iter(config.decode.searches.values())), recogniser.model, recogniser.tokenizer, recogniser.lang)
    for batch in batches:
        batch = batch.to(next(recogniser.model.parameters()).device)
        assert batch.targets is not None
        encoder_out = recogniser.model.encode(batch.features_BTF, batch.feature_lens_B, batch.before_BTQ, batch.after_BTQ)
        loss_B = losses(encoder_out, batch.targets, recogniser.model, newest["position"]["step"]).total_B
        tokens_B = batch.targets.lens_B.clamp(min=1)
        heard = [to_text(best[0], recogniser.tokenizer) for best in search.decode(encoder_out)]
        yield from map(Outlier, batch.ids, (loss_B / tokens_B).tolist(), batch.durations, batch.targets.lens_B.tolist(), batch.texts, heard)


def write(path: Path, outliers: Iterable[Outlier]) -> None:
    """A table of tab-separated columns with a header."""
    with atomic_write(path) as file:
        table = csv.DictWriter(file, [field.name for field in fields(Outlier)], delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows({**asdict(outlier), "loss_per_token": f"{outlier.loss_per_token:.4f}"} for outlier in outliers)
