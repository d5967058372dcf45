"""Stage 2: computes the features of every split, in shards: an interrupted run goes on with the first unfinished one.

    python local/compute_features.py --config conf/base.yaml --jobs 4                # four processes here
    utils/run.pl JOB=1:8 log/features.JOB.log python local/compute_features.py --config conf/base.yaml --job JOB --jobs 8
    python local/compute_features.py --config conf/base.yaml                         # joins what the eight have done

Writes data/<features>/<split>.jsonl.gz and archives beside it; nothing where the config says features.stored: false.
For units, what makes them comes first, fitted to the training split where it must be: data/<features>/extractor.
"""
from __future__ import annotations

import argparse
import logging
import os
import sys
from functools import partial

import torch

from asr.cli.program import check_job, config_arguments, job_argument, open_experiment, program
from asr.cli.units import make_extractor, make_subwords
from asr.data import compute_features
from asr.features import open_features
from asr.files import fingerprint, run_once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core); with --job, jobs in all")
    job_argument(parser)
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these splits (default: all of the config)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                        help="where an extractor of units runs: cpu, cuda or cuda:N; not of fbank")


def run(args: argparse.Namespace) -> None:
    check_job(args)
    config, layout = open_experiment(args)
    for features in (config.features, config.units):
        if features is None:
            continue
        if not features.stored:
            logging.info("features: made from audio whenever a batch is loaded (features.stored: false)")
            continue
        if features.discrete:
            make_extractor(layout, features, args.device)
        extract = open_features(features, layout.extractor(features))
        for split in args.splits or config.corpus.splits:
            cuts, output = layout.cuts(split), layout.stored(features, split)
            build = partial(compute_features, cuts, output, features, jobs=args.jobs, job=args.job,
                            device=args.device if features.discrete else "cpu")
            if args.job is not None:
                build()
                continue
            run_once(f"{features.name} of {split}", [output], fingerprint(cuts, extract.settings), build)
        if features.discrete and args.job is None:
            make_subwords(layout, features)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
