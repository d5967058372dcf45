"""Stage 2: computes the features of every split, in shards: an interrupted run goes on with the first unfinished one.

    python local/compute_features.py --config conf/base.yaml --jobs 4

Writes data/<features>/<split>.jsonl.gz and archives beside it; nothing where the config says features.stored: false.
"""
from __future__ import annotations

import argparse
import logging
import os
import sys
from functools import partial

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import compute_features
from asr.files import fingerprint, run_once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these splits (default: all of the config)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    if not config.features.stored:
        logging.info("features: made from audio whenever a batch is loaded (features.stored: false)")
        return
    for split in args.splits or config.corpus.splits:
        cuts, output = layout.cuts(split), layout.features(split)
        key = fingerprint(cuts, config.features.model_dump(mode="json"))
        build = partial(compute_features, cuts, output, config.features, jobs=args.jobs)
        run_once(f"features of {split}", [output], key, build)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
