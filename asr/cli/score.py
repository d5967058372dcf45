"""Score decoded splits: error rates with intervals on the terminal, reports beside the hypotheses, ledger.jsonl and RESULTS.md.

    asr score --exp-dir exp/zipformer --splits test
    asr score --exp-dir exp/zipformer --splits test_adult test_child --interval-over speakers

Every search found in exp/<name>/decode/<split>/ is scored. Scoring again replaces the rows of the ledger.
"""
from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Any, get_args

from asr.cli.program import config_arguments, open_experiment
from asr.data import count_frames, read_cuts
from asr.experiment import Layout, mixed
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
                           tuned_on_test=args.tuned_on_test, input=input_of(layout, split))
        ledger.append(args.results_dir / "ledger.jsonl", rows)
        print(f"\n{config.name}, {split}: {rows[0].utterances} utterances, {rows[0].words} words\n{terminal_table(rows)}")
    write_results(args.results_dir / "ledger.jsonl", args.results_dir / "RESULTS.md")
    print(f"\nreports: {layout.exp}/decode/<split>/<search>.errors.txt; results: {args.results_dir / 'RESULTS.md'}")


def input_of(layout: Layout, split: str) -> dict[str, Any] | None:
    """What the model read of a split, see ``asr.score.ledger.Row``; None where the split's manifest and features are not there any more.

    Bits are those of units that are all as frequent, or of numbers as they are stored (float16).
    """
    config, manifest = layout.config, layout.features(split)
    try:
        cuts, frames = read_cuts(manifest), count_frames(manifest, config.features)
        per_second = sum(map(frames, cuts)) / sum(cut.duration for cut in cuts)
    except ValueError:
        return None
    features: Any = config.features
    name, bits = features.name, per_second * features.dim * 16
    if features.discrete:
        name = ", ".join(filter(None, (features.name, "without repetitions" if features.deduplicate else "",
                                       f"{features.bpe} subwords" if features.bpe else "")))
        bits = per_second * features.codebooks * math.log2(features.vocabulary)
    elif mixed(config):
        units: Any = config.units
        name, bits = f"{name} and {units.name}", bits + units.codebooks * math.log2(units.vocabulary) / units.frame_shift
    return {"name": name, "units": features.discrete or mixed(config), "frames": round(per_second, 1), "bits": round(bits)}
