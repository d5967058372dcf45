"""Stage 1: reads the corpus, checks every utterance, and writes one manifest per split.

    python local/prepare_manifests.py --config conf/base.yaml --corpus-dir corpus

Writes data/manifests/<split>.jsonl.gz, and data/manifests/dropped.jsonl with the id of and the reason for all that was left out.
"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import prepare_corpus
from asr.files import fingerprint, run_once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--corpus-dir", type=Path, required=True, help="where the corpus lies")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files read at once (default: one per core)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    corpus = config.corpus
    if corpus.sample_rate != config.features.sample_rate:
        raise ValueError(f"corpus.sample_rate is {corpus.sample_rate} and features.sample_rate is {config.features.sample_rate}: "
                         "make them the same")
    outputs = [layout.manifests / "dropped.jsonl", *(layout.cuts(split) for split in corpus.splits)]
    key = fingerprint(corpus.model_dump(mode="json"), str(args.corpus_dir.resolve()), listing(args.corpus_dir), script_of(corpus))
    run_once("manifests", outputs, key, lambda: prepare_corpus(corpus, args.corpus_dir, layout.manifests, jobs=args.jobs))


def listing(directory: Path) -> list[Any]:
    """Name, size and time of every file: what changes when the corpus does, without reading it all."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return [(str(path.relative_to(directory)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def script_of(corpus: Any) -> str:
    sources = corpus.source.corpora.values() if corpus.source.type == "several" else [corpus.source]
    paths = [Path(source.file) for source in sources if source.type == "script"]
    return "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
