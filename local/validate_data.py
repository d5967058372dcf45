"""Prints what the manifests hold, and what looks wrong in them. Not a stage: run it on any corpus after stage 1.

    python local/validate_data.py --config conf/base.yaml
"""
from __future__ import annotations

import argparse
import sys

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import read_dropped, read_transcripts, summary
from asr.data.statistics import SplitStatistics, rate, shared_speakers, statistics

SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    splits = {split: statistics(read_transcripts(layout.cuts(split))) for split in config.corpus.splits}
    print(table(splits))
    known = set(splits["train"].characters) if "train" in splits else set()
    for name, split in splits.items():
        print(f"\n{name}: {len(split.characters)} characters: {' '.join(sorted(split.characters))}")
        if new := set(split.characters) - known:
            print(f"  warning: not in train: {' '.join(sorted(new))}")
        if split.unusual:
            print(f"  {len(split.unusual)} unusual speaking rates (characters per second), the most unusual ones:")
        for item in split.unusual[:SHOWN]:
            print(f"    {item.id}: {rate(item):.1f}/s, {item.duration:.2f} s: {item.text}")
    for (a, b), common in shared_speakers(splits).items():
        print(f"warning: {len(common)} speakers are both in {a} and in {b}: {', '.join(sorted(common)[:SHOWN])}")
    dropped = read_dropped(layout.manifests / "dropped.jsonl")
    print(f"\n{len(dropped)} utterances were dropped" + (f":\n{summary(dropped)}" if dropped else ""))


def table(splits: dict[str, SplitStatistics]) -> str:
    lines = [f"{'split':<16}{'utterances':>11}{'hours':>8}{'speakers':>9}{'words':>9}   seconds: min, 5 %, median, 95 %, max"]
    for name, split in splits.items():
        seconds = "  ".join(f"{value:.2f}" for value in split.seconds)
        lines.append(f"{name:<16}{split.utterances:>11}{split.hours:>8.2f}{len(split.speakers) or '?':>9}{split.words:>9}   {seconds}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
