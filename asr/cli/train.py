"""Train the model of a config. Run the same command again after whatever happened: it goes on exactly where it was.

    asr train --config conf/base.yaml                       # data/ -> exp/<name>/
    asr train --config conf/base.yaml --set train.epochs=5
    torchrun --nproc_per_node 4 -m asr train --config conf/base.yaml --set train.batches_per_step=4

SIGTERM writes a checkpoint and exits with 0. See docs/training.md for what lies in exp/<name>/ afterwards.
"""
from __future__ import annotations

import argparse
import logging
from functools import partial
from typing import Any

from asr.cli.batch_size import with_batch_size
from asr.cli.program import config_arguments, open_experiment
from asr.cli.units import keep_units
from asr.config import dump_config
from asr.data import evaluation_loader, training_loader
from asr.experiment import ExperimentConfig, Layout, beside, experiment_losses, split_cuts, start_model, unusable
from asr.features import Units
from asr.files import atomic_dir, fingerprint
from asr.tokens import load_tokenizer
from asr.train import Trainer
from asr.train.distributed import Ranks
from asr.train.step import seed_everything

log = logging.getLogger(__name__)

FREE = {
    "epochs", "max_steps", "max_minutes", "activation_checkpointing", "checkpoints", "validate_every", "log_interval", "device", "threads",
}
"""Keys of ``train`` that may change when a run is resumed, and those of its batches."""
FREE_BATCHES = {"workers", "cache"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--resume", choices=("auto", "never"), default="auto",
                        help="auto (default): go on from the newest checkpoint; never: remove what an earlier run left, start anew")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    ranks = Ranks.from_environment()
    tokenizer = load_tokenizer(layout.lang)
    config = with_batch_size(config, layout, tokenizer, ranks, args.resume)
    seed_everything(config.seed)
    model, started_from = start_model(config, tokenizer)
    weights = identity(config, layout, started_from)
    trainer = Trainer(config.train, model, experiment_losses(config, model, tokenizer), layout.exp, seed=config.seed, resume=args.resume,
                      identity={**options(config), **weights}, chosen={**options(config, exclude_defaults=True), **weights}, ranks=ranks)
    if trainer.up_to_date:
        log.info("%s: up to date", layout.exp)
        return
    if ranks.main:
        dump_config(config, layout.config_file)
        with atomic_dir(layout.tokens) as directory:
            tokenizer.save(directory)
        keep_units(layout)
    exclude = {}
    for split in [name for name in ("train", "dev") if name in config.corpus.splits]:
        dropped = unusable(config, layout, split, tokenizer, model)
        exclude[split] = frozenset(item.id for item in dropped)
        if ranks.main:
            trainer.problems.report([(item.id, item.reason) for item in dropped])
    load_epoch = partial(training_loader, layout.features("train"), config.train.batches, config.features, tokenizer, seed=config.seed,
                         rank=ranks.rank, world_size=ranks.size, exclude=exclude["train"],
                         beside=beside(config, layout, "train", targets=True))
    validation = None if "dev" not in exclude else partial(
        evaluation_loader, layout.features("dev"), config.features, tokenizer, max_duration=config.train.batches.seconds,
        exclude=exclude["dev"], beside=beside(config, layout, "dev", targets=True))
    outcome = trainer.run(lambda epoch, skip: load_epoch(epoch=epoch, skip_batches=skip), validation)
    log.info("%s: %s after %d steps, %.1f min", layout.exp, outcome, trainer.position.step, trainer.seconds / 60)
    ranks.close()


def options(config: ExperimentConfig, exclude_defaults: bool = False) -> dict[str, Any]:
    """The config without what may change on resuming."""
    return config.model_dump(mode="json", include={"seed", "features", "units", "tokens", "model", "losses", "train"},
                             exclude={"train": {**dict.fromkeys(FREE, True), "batches": FREE_BATCHES}}, exclude_defaults=exclude_defaults)


def identity(config: ExperimentConfig, layout: Layout, started_from: str) -> dict[str, Any]:
    """What the weights depend on besides the config: the data they are trained on, and frozen weights.

    started_from: digest of the weights of ``train.init_from``.
    """
    shar = config.train.batches.shar
    if shar is not None:
        data = fingerprint(*sorted(shar.dir.glob("cuts.*")))
    else:
        data = fingerprint([(cut.id, cut.duration, cut.supervisions[0].text) for cut in split_cuts(config, layout, "train")])
    extractors = [Units(units, layout.extractor(units)).identity for units in layout.discrete]
    frozen = {} if config.train.tune is None else {"initial weights": started_from}
    return {**({"extractors": extractors} if extractors else {}), "training data": data[:16], **frozen}
