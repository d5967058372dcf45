"""Decode splits with every search of the config, and print word error rates and real-time factors.

    asr decode --exp-dir exp/x --splits dev --tune      # choose the scales listed under 'tune:' of each search, calibrate confidences
    asr decode --exp-dir exp/x --splits test            # with the scales chosen on dev
    run.pl JOB=1:8 log/decode.JOB.log asr decode --exp-dir exp/x --splits test --job JOB --jobs 8    # then the line above joins the parts

Results are in <exp-dir>/decode/<split>/<search>.jsonl; what is there already, of the same weights, settings and data, is kept.
"""
from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from asr.cli.program import check_job, config_arguments, job_argument, open_experiment
from asr.cli.recogniser import load_recogniser, recogniser_arguments
from asr.cli.units import check_units
from asr.decode import build_search
from asr.decode.driver import Driver, Reference, Split, table
from asr.files import fingerprint
from asr.score import calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--splits", nargs="+", required=True, help="splits of the config's corpus")
    parser.add_argument("--searches", nargs="+", help="only these of the config's searches (default: all)")
    parser.add_argument("--tune", action="store_true", help="choose the scales of each search on this split, which must not be a test set")
    parser.add_argument("--tune-on-test", action="store_true", help="allow --tune on a test set; results are marked as tuned on it")
    parser.add_argument("--untuned", action="store_true", help="use the config's own scales where none were tuned")
    recogniser_arguments(parser)
    parser.add_argument("--jobs", type=int, default=1, help="with --job, jobs in all")
    job_argument(parser)
    parser.add_argument("--workers", type=int, default=0, help="processes that load features (default: 0, load in this one)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    _check(args, config, layout)
    check_units(layout)
    recogniser = load_recogniser(config, layout, args.device, args.partial)
    build = partial(build_search, model=recogniser.model, tokenizer=recogniser.tokenizer, lang=recogniser.lang)
    searches = {name: config.decode.searches[name] for name in args.searches or config.decode.searches}
    driver = Driver(recogniser, searches, build, layout.tuned)
    for name in args.splits:
        batches = partial(_batches, config, layout, args, name)
        part = "" if args.job is None else f"{args.job}-of-{args.jobs}"
        outcomes = driver.decode(_split(layout, name), batches, tune=args.tune, untuned=args.untuned, part=part)
        if part:
            continue
        print(table(name, outcomes))
        if args.tune:
            decoded = [layout.decode(name) / f"{outcome.search}.jsonl" for outcome in outcomes if not outcome.reason]
            calibration.calibrate(decoded, layout.calibration)


def _check(args: argparse.Namespace, config: Any, layout: Any) -> None:
    check_job(args)
    for name in args.splits:
        if name not in config.corpus.splits and not layout.cuts(name).exists():
            raise ValueError(f"--splits: '{name}' is not a split of the config's corpus; it has {', '.join(config.corpus.splits)}")
    for name in args.searches or ():
        if name not in config.decode.searches:
            raise ValueError(f"--searches: '{name}' is not one of the config's: {', '.join(config.decode.searches)}")
    if args.tune and len(args.splits) != 1:
        raise ValueError("--tune chooses scales on one split: name one, as in --splits dev --tune")
    test = [name for name in args.splits if name not in ("train", "dev")]
    if args.tune and test and not args.tune_on_test:
        raise ValueError(f"'{test[0]}' is a test set; tune on dev, or add --tune-on-test, which marks the results as what they are")


def _split(layout: Any, name: str) -> Split:
    from asr.data import iterate_transcripts

    cuts: Path = layout.features(name)
    references = {t.id: Reference(t.text, t.speaker, t.duration) for t in iterate_transcripts(cuts)}
    return Split(name, references, fingerprint(cuts), layout.decode(name))


def _batches(config: Any, layout: Any, args: argparse.Namespace, split: str) -> Any:
    from asr.data import evaluation_loader
    from asr.experiment import beside

    job, jobs = (1, 1) if args.job is None else (args.job, args.jobs)
    loader = evaluation_loader(
        layout.features(split), config.features, max_duration=config.decode.max_duration, workers=args.workers,
        beside=beside(config, layout, split, targets=False), job=job, jobs=jobs,
    )
    return tqdm(loader, desc=f"decoding {split}", unit="batch", disable=None)
