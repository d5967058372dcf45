"""Train the model of a config. Run the same command again after whatever happened: it goes on exactly where it was.

    asr train --config conf/conformer.yaml                       # data/ -> exp/<name>/
    asr train --config conf/conformer.yaml --set train.epochs=5
    torchrun --nproc_per_node 4 -m asr train --config conf/conformer.yaml --set train.batches_per_step=4

SIGTERM writes a checkpoint and exits with 0. See docs/training.md for what lies in exp/<name>/ afterwards.
"""
from __future__ import annotations

import argparse
import logging
from functools import lru_cache, partial
from typing import Any

from asr.cli.program import config_arguments, open_experiment

log = logging.getLogger(__name__)

FREE = ("epochs", "max_steps", "max_minutes", "checkpoints", "validate_every", "log_interval", "device", "threads")
"""Keys of ``train`` that may change when a run is resumed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--resume", choices=("auto", "never"), default="auto",
                        help="auto: go on from the newest checkpoint; never: remove what an earlier run left and start anew (default: auto)")


def run(args: argparse.Namespace) -> None:
    from asr.data import evaluation_loader, training_loader
    from asr.experiment import build_model
    from asr.losses import build_losses
    from asr.tokens import load_tokenizer
    from asr.train import Trainer
    from asr.train.distributed import Ranks
    from asr.train.step import seed_everything

    config, layout = open_experiment(args)
    ranks = Ranks.from_environment()
    tokenizer = load_tokenizer(layout.lang)
    seed_everything(config.seed)
    model = build_model(config, tokenizer)
    losses = build_losses(config.losses, model)
    trainer = Trainer(config.train, model, losses, layout.exp, seed=config.seed, resume=args.resume, identity=identity(config, layout),
                      ranks=ranks)
    if trainer.up_to_date:
        log.info("%s: up to date", layout.exp)
        return
    if ranks.main:
        _describe(config, layout, tokenizer)
    batches = config.train.batches
    train_exclude = unusable(config, layout, "train", model, tokenizer, trainer.problems)
    loader = partial(_epoch, partial(
        training_loader, layout.features("train"), batches, config.features, tokenizer, seed=config.seed, rank=ranks.rank,
        world_size=ranks.size, exclude=train_exclude,
    ))
    validation = None
    if "dev" in config.corpus.splits:
        validation = partial(evaluation_loader, layout.features("dev"), config.features, tokenizer, max_duration=batches.max_duration,
                             exclude=unusable(config, layout, "dev", model, tokenizer, trainer.problems))
    outcome = trainer.run(loader, validation)
    log.info("%s: %s after %d steps, %.1f min", layout.exp, outcome, trainer.position.step, trainer.seconds / 60)
    ranks.close()


def _epoch(loader: Any, epoch: int, skip_batches: int) -> Any:
    return loader(epoch=epoch, skip_batches=skip_batches)


def identity(config: Any, layout: Any) -> dict[str, Any]:
    """What the weights depend on: the config without what may change on resuming, and the data it is trained on."""
    from asr.files import fingerprint

    values = config.model_dump(mode="json", include={"seed", "features", "tokens", "model", "losses", "train"})
    for key in FREE:
        values["train"].pop(key)
    for key in ("workers", "cache"):
        values["train"]["batches"].pop(key)
    return {**values, "training data": fingerprint(layout.features("train"))[:16]}


def unusable(config: Any, layout: Any, split: str, model: Any, tokenizer: Any, problems: Any) -> frozenset[str]:
    """Ids of the utterances of a split that no loss can align or no token can spell; they are reported."""
    import torch

    from asr.data import check_targets, read_cuts

    @lru_cache(maxsize=None)
    def encoder_frames(frames: int) -> int:
        return int(model.encoder.frames_out(torch.tensor([frames])))

    dropped = check_targets(read_cuts(layout.features(split)), split, config.features, tokenizer, encoder_frames)
    problems.report([(item.id, item.reason) for item in dropped])
    return frozenset(item.id for item in dropped)


def _describe(config: Any, layout: Any, tokenizer: Any) -> None:
    """What decoding needs besides the weights: the resolved config and the tokenizer."""
    from asr.config import dump_config
    from asr.files import atomic_dir

    dump_config(config, layout.config_file)
    with atomic_dir(layout.tokens) as directory:
        tokenizer.save(directory)
