"""Stage 0 of egs/numbers: writes the numbers corpus, spoken numbers and short commands by eSpeak NG.

    python local/synthesise_corpus.py --out corpus                                   # the default, under a minute on two cores
    python local/synthesise_corpus.py --out corpus_de --lang de                      # numbers only, in German
    python local/synthesise_corpus.py --out tiny --utterances 60 --speakers 6        # for a quick try

Interrupted, it goes on where it was when started again.
"""
from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from asr.cli.program import program
from asr.config import validate
from asr.data.synthesis import SynthesisConfig, synthesise

log = logging.getLogger(__name__)

OPTIONS = {
    "lang": (str, "any language that eSpeak NG and num2words both know, as en, de, pt-br"),
    "utterances": (int, "training utterances"),
    "dev_utterances": (int, "development utterances"),
    "test_utterances": (int, "test utterances"),
    "speakers": (int, "speakers of all splits together"),
    "lm_sentences": (int, "sentences of lm_text.txt"),
    "seed": (int, "of everything random"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the corpus; new, empty, or of an earlier run")
    for name, (kind, meaning) in OPTIONS.items():
        default = SynthesisConfig.model_fields[name].default
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time (default: one per CPU)")


def run(args: argparse.Namespace) -> None:
    config = validate(SynthesisConfig, {name: getattr(args, name) for name in OPTIONS}, where="options")
    started = time.monotonic()
    synthesise(config, args.out, jobs=max(1, args.jobs))
    log.info("%s: complete (%.1f s); see its README.md", args.out, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
