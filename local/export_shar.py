"""Writes splits as lhotse Shar shards, for training sets too large for one manifest in memory, or for slow disks.

    python local/export_shar.py --config conf/base.yaml --splits train
    asr train --config conf/base.yaml --set train.batches.shar.dir=data/shar_fbank_80/train

Shards hold the stored features, or the audio where the config says features.stored: false. They are lhotse's: CutSet.from_shar reads them.
"""
from __future__ import annotations

import argparse
import os
import sys
from functools import partial

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import write_shar
from asr.files import fingerprint, run_once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--splits", nargs="+", default=["train"], metavar="SPLIT", help="which splits (default: train)")
    parser.add_argument("--shard-size", type=int, default=1000, help="utterances in a shard (default: 1000)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    for split in args.splits:
        cuts, output = layout.features(split), layout.shar(split)
        key = fingerprint(cuts, config.features.model_dump(mode="json"), args.shard_size, config.seed)
        build = partial(write_shar, cuts, output, config.features, shard_size=args.shard_size, seed=config.seed, jobs=args.jobs)
        run_once(f"shards of {split}", [output], key, build)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
