"""Compare two decoded systems on the same utterances: is the second better than the first, or only luckier?

    asr compare exp/a/decode/test/greedy.jsonl exp/a/decode/test/beam.jsonl    # two files of hypotheses
    asr compare exp/a exp/b                                                    # all sets and searches that both have
    asr compare exp/a/decode/test exp/b/decode/test                            # searches of one set

Differences are of the word error rate, the second's less the first's, so below 0 where the second is better. Their interval and
the first p-value are by the paired bootstrap, the other p-value by the MAPSSWE test. See docs/scoring.md.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from asr.score import compare, mapsswe, score_file
from asr.score.evaluate import Over, resampling_groups
from asr.score.report import table

RESAMPLES = 10_000
"""More than intervals need: the smallest p-value is the inverse of half of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, help="a file of hypotheses, an experiment, or a directory of decoded sets or searches")
    parser.add_argument("second", type=Path, help="another of the same kind")
    parser.add_argument("--interval-over", choices=get_args(Over), default="utterances",
                        help="what the bootstrap resamples (default: utterances)")


def run(args: argparse.Namespace) -> None:
    rows = [_row(name, first, second, args.interval_over) for name, first, second in pairs(args.first, args.second)]
    print(table([("decoded", "utterances", "WER % first", "second", "difference [95 %]", "p bootstrap", "p MAPSSWE"), *rows]))


def pairs(first: Path, second: Path) -> list[tuple[str, Path, Path]]:
    """(name, file, file) of what is to be compared. Raises ValueError where the two have no file of the same name."""
    if first.is_file() and second.is_file():
        return [(first.stem if first.stem == second.stem else f"{first.stem}, {second.stem}", first, second)]
    for path in (first, second):
        if not path.exists():
            raise ValueError(f"{path}: no such file or directory")
    if first.is_file() or second.is_file():
        raise ValueError(f"of {first} and {second} one is a file and the other a directory: name two of a kind")
    found = [{path.relative_to(root).with_suffix(""): path for path in root.rglob("*.jsonl")} for root in map(_decoded, (first, second))]
    both = sorted(found[0].keys() & found[1].keys())
    if not both:
        raise ValueError(f"{first} and {second} have no decoded set and search in common; the first has "
                         f"{', '.join(map(str, sorted(found[0]))) or 'none'}, the second {', '.join(map(str, sorted(found[1]))) or 'none'}")
    return [(str(name), found[0][name], found[1][name]) for name in both]


def _decoded(directory: Path) -> Path:
    """The results of an experiment; any other directory is itself."""
    return directory / "decode" if (directory / "decode").is_dir() else directory


def _row(name: str, first: Path, second: Path, over: Over) -> tuple[str, ...]:
    baseline, system = score_file(first, over), score_file(second, over)
    try:
        found = compare(system.scored, baseline.scored, groups=resampling_groups(system.scored, over), resamples=RESAMPLES)
    except ValueError as error:
        raise ValueError(f"{first} and {second} cannot be compared: {error}") from None
    low, high = found.interval.low, found.interval.high
    segments = mapsswe(system.scored, baseline.scored)
    return (name, str(len(system.scored.utterances)), f"{100 * baseline.scored.words.rate:.2f}", f"{100 * system.scored.words.rate:.2f}",
            f"{100 * found.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]", f"{found.p_value:.4f}", f"{segments.p_value:.4f}")
