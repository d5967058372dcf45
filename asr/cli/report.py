"""Write an HTML page about each decoded set: errors by set, speaker and length, confused words, the worst utterances with their audio.

    asr report --exp-dir exp/x --splits test                      # every search: exp/x/decode/test/<search>.html
    asr report --exp-dir exp/x --splits test --searches beam --utterances 30

A page holds all it needs and can be sent to others; audio of the worst utterances is in it. See docs/scoring.md.
"""
from __future__ import annotations

import argparse
import logging
from typing import Any

from asr import hypotheses
from asr.cli.program import config_arguments, open_experiment
from asr.data.audio import utterance_audio
from asr.files import atomic_write
from asr.score import score, score_file
from asr.score.page import error_page, worst
from asr.score.plots import Clip

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--splits", nargs="+", required=True, help="decoded sets")
    parser.add_argument("--searches", nargs="+", help="only these (default: all that were decoded)")
    parser.add_argument("--utterances", type=int, default=10, help="how many of the worst and of the best to show (default: 10)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    for split in args.splits:
        decoded = {path.stem: path for path in sorted(layout.decode(split).glob("*.jsonl"))}
        missing = [name for name in args.searches or () if name not in decoded]
        if missing or not decoded:
            raise ValueError(f"{layout.decode(split)}: no results {f'of {missing[0]} ' if missing else ''}here; decode the set first")
        for name in args.searches or decoded:
            result = score_file(decoded[name])
            sets = {path.parent.name: score(hypotheses.read(path).utterances).words
                    for path in sorted(layout.decode(split).parent.glob(f"*/{name}.jsonl"))}
            page = error_page(result, f"{config.name}, {split}, {name}", sets, _clips(layout, split, worst(result.scored, args.utterances)),
                              utterances=args.utterances)
            with atomic_write(decoded[name].with_suffix(".html")) as file:
                file.write(page)
            print(decoded[name].with_suffix(".html"))


def _clips(layout: Any, split: str, utterances: Any) -> dict[str, Clip]:
    """Audio of the utterances, or none where it is not there any more."""
    try:
        found = utterance_audio(layout.features(split), {scored.utterance.id for scored in utterances})
    except ValueError as error:
        log.warning("no audio in the report: %s", error)
        return {}
    return {id: Clip(samples.numpy(), rate) for id, (samples, rate) in found.items()}
