"""Measure time and memory of one part: see docs/benchmarks.md.

    asr bench losses --sizes 8,100,20,500
    asr bench decode --exp-dir exp/conformer     # with a trained model
    asr bench training                           # on the data of egs/numbers
    asr bench                                    # all on made-up data, with their defaults

Each prints one table. Measure on a machine that does nothing else.
"""
from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

BENCHMARKS = {
    "losses": "transducer losses and their engines, beside k2's and torchaudio's",
    "search": "greedy and beam search with RNN-T and TDT",
    "decode": "a trained model: real-time factors by component, searches beside greedy search, memory over hours",
    "encoder": "Zipformer: training and inference",
    "checkpointing": "activation checkpointing of an encoder",
    "graphs": "decoding graphs of a large vocabulary, from a folder of texts",
    "manifests": "memory of going through manifests of many utterances",
    "training": "an epoch of training, configs beside each other, on the data of a recipe",
}
"""Benchmark -> one line of help; the module is asr/bench/<name>.py."""

OF_A_RECIPE = {"decode": "a trained model: asr bench decode --exp-dir DIR", "training": "the data of egs/numbers: asr bench training"}
"""Those that need more than themselves, which 'asr bench' alone leaves out, and what they need."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(benchmark=None)
    names = parser.add_subparsers(metavar="NAME")
    for name, summary in BENCHMARKS.items():
        module = importlib.import_module(f"asr.bench.{name}")
        benchmark = names.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(benchmark)
        benchmark.set_defaults(benchmark=module.run)


def run(args: argparse.Namespace) -> int:
    if args.benchmark is not None:
        args.benchmark(args)
        return 0
    for name in BENCHMARKS:  # in processes of their own, so that memory is each one's
        if name in OF_A_RECIPE:
            print(f"== {name} needs {OF_A_RECIPE[name]}")
            continue
        print(f"== {name}", flush=True)
        if status := subprocess.run([sys.executable, "-m", "asr", "bench", name], check=False).returncode:
            return status
    return 0
