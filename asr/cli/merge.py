"""Make an experiment whose ``train.tune`` was lora a whole one, which needs the experiment it started from no more.

    asr merge --exp-dir exp/sw --out exp/sw_whole

The averaged weights, low-rank changes added to what they change, become those of the new experiment.
"""
from __future__ import annotations

import argparse
import logging
from pathlib import Path

from asr.cli.program import config_arguments, open_experiment
from asr.config import dump_config
from asr.experiment import Layout, experiment_tokenizer, trained_model
from asr.train.checkpoints import CheckpointStore

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="directory of the experiment to write")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    if (args.out / "config.yaml").exists():
        raise ValueError(f"{args.out}: there is an experiment here already; choose another --out, or remove it")
    if config.train.tune is not None and config.train.tune.type == "adapters":
        raise ValueError(f"{layout.exp}: adapters are no change of weights, so they cannot be merged; decode with it as it is")
    tokenizer = experiment_tokenizer(layout)
    state = trained_model(config, layout.exp, tokenizer).state_dict()
    train = config.train.model_copy(update={"tune": None})
    merged = Layout(config.model_copy(update={"name": args.out.name, "train": train}), layout.data, args.out)
    tokenizer.save(merged.tokens)
    store = CheckpointStore(merged.checkpoints, train.checkpoints)
    tensors = {"model": dict(state), "average": {"count": 0, "sums": {}}}  # as after one epoch with nothing to average
    store.save(tensors, {"position": {"epoch": 1, "step": 1}}, "epoch", 1)
    dump_config(merged.config, merged.config_file)
    log.info("%s: the weights of %s, merged", args.out, layout.exp)
