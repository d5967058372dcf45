"""asr: train, decode, score and look into speech recognisers.

Run 'asr COMMAND --help' for the arguments of one command.
"""
from __future__ import annotations

import argparse
import importlib
import logging
import sys

from asr.cli.program import guarded

COMMANDS = {
    "doctor": "what this environment has, what is missing and what brings it",
    "new-recipe": "look at a corpus and write a recipe for it",
    "train": "train a model",
    "train-lm": "train the language models of a config",
    "decode": "decode splits with every search of the config; tune scales on dev",
    "score": "score decoded splits, write the ledger and RESULTS.md",
    "report": "an HTML page about each decoded set: where its errors are, how they look and sound",
    "compare": "whether one decoded system is better than another, or only luckier",
    "align": "when each word and token of given transcripts is spoken: CTM, TextGrid, JSON",
    "transcribe": "recognise audio files",
    "info": "what an experiment is and how its training went",
    "graph": "what a decoding graph is, with a picture of small ones",
    "unit-quality": "measure discrete units without training on them",
    "outliers": "training utterances with the highest loss per token: bad transcripts",
    "bench": "time and memory of losses, searches, encoders",
    "merge": "make an experiment that trained a part of a model a whole one",
    "import-checkpoint": "turn a published Zipformer checkpoint into an experiment",
}
"""Command -> one line of help; the module is asr/cli/<command>.py with '-' as '_'."""


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="asr", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:  # only the command that runs is imported: 'asr --help' answers at once
            module = importlib.import_module(f"asr.cli.{name.replace('-', '_')}")
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    return guarded(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
