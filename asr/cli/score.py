"""Score decoded splits: error rates with intervals on the terminal, reports beside the hypotheses, ledger.jsonl and RESULTS.md.

    asr score --exp-dir exp/zipformer --splits test
    asr score --exp-dir exp/zipformer --splits test_adult test_child --interval-over speakers

Every search found in exp/<name>/decode/<split>/ is scored. Scoring again replaces the rows of the ledger.
"""
from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import get_args

from asr.cli.program import config_arguments, open_experiment
from asr.score import ledger
from asr.score.evaluate import Over, score_split
from asr.score.results import terminal_table, write_results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--splits", nargs="+", required=True, help="decoded sets to score")
    parser.add_argument("--results-dir", type=Path, default=Path("."), help="where ledger.jsonl and RESULTS.md are (default: here)")
    parser.add_argument("--tuned-on-test", action="store_true", help="score also what was tuned on the very set; its rows are marked")
    parser.add_argument("--interval-over", choices=get_args(Over), default="utterances",
                        help="what the bootstrap resamples (default: utterances)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    command = shlex.join(["asr", *sys.argv[1:]])
    for split in args.splits:
        rows = score_split(layout.decode(split), config.name, layout.exp, command=command, over=args.interval_over,
                           tuned_on_test=args.tuned_on_test)
        ledger.append(args.results_dir / "ledger.jsonl", rows)
        print(f"\n{config.name}, {split}: {rows[0].utterances} utterances, {rows[0].words} words\n{terminal_table(rows)}")
    write_results(args.results_dir / "ledger.jsonl", args.results_dir / "RESULTS.md")
    print(f"\nreports: {layout.exp}/decode/<split>/<search>.errors.txt; results: {args.results_dir / 'RESULTS.md'}")
