"""Transcribes audio without transcripts by a trained model, and keeps what two searches agree on and no rule finds fault with.

    python local/vad.py --audio radio/ --output data/manifests/radio.jsonl.gz
    python local/pseudo_label.py --exp-dir exp/conformer --split radio --searches beam ctc_greedy --output pseudo/radio.jsonl.gz

Decodes as 'asr decode --untuned' does, whose results it takes where they are there (from an array of jobs). The text is the first
search's. The output is a manifest of a corpus (source: {type: manifests}); 'confidence' and 'disagreement', kept with each utterance,
can be asked for by a split. What is left out is listed with the reason in <output>.dropped.jsonl. The rules: asr/score/filters.py.
"""
from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from asr import hypotheses
from asr.cli import decode
from asr.cli.program import config_arguments, open_experiment, program
from asr.cli.recogniser import recogniser_arguments
from asr.data import Dropped, iterate_cuts, write_selection
from asr.score.filters import Rules, confidence, disagreement, fault


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--split", required=True, help="the name of its manifest in <data-dir>/manifests")
    parser.add_argument("--searches", nargs=2, required=True, metavar="NAME", help="two of the config's: one whose results are taken, "
                        "and one that has to agree, the more different the better")
    parser.add_argument("--output", type=Path, required=True, help="the manifest, *.jsonl.gz")
    for field in fields(Rules):
        kind = int if isinstance(field.default, int) else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=f"(default: {field.default:g})")
    recogniser_arguments(parser)


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    if not layout.features(args.split).exists():
        args.overrides.append("features.stored=false")
        config, layout = open_experiment(args)
    decode.run(argparse.Namespace(
        **vars(args), splits=[args.split], tune=False, tune_on_test=False, untuned=True, workers=0, job=None, jobs=1))
    files = [layout.decode(args.split) / f"{name}.jsonl" for name in args.searches]
    first, second = ({row.id: row for row in hypotheses.read(file).utterances} for file in files)
    rules = Rules(**{field.name: getattr(args, field.name) for field in fields(Rules)})
    kept: list[Any] = []
    dropped: list[Dropped] = []
    for cut in iterate_cuts(layout.cuts(args.split)):
        found, other = first[cut.id], second[cut.id]
        reason = fault(found, other, rules)
        if reason:
            dropped.append(Dropped(cut.id, args.split, reason))
        else:
            cut.supervisions[0].text = found.hyp
            cut.supervisions[0].custom = {
                **(cut.supervisions[0].custom or {}), "confidence": round(confidence(found), 4),
                "disagreement": round(disagreement(found.hyp, other.hyp), 4),
            }
            kept.append(cut)
    write_selection(args.output, kept, dropped)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
