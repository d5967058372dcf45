"""Stage 3: makes the tokenizer from the transcripts of the training split.

    python local/train_tokens.py --config conf/base.yaml

Writes tokenizer.yaml, tokens.txt and, by type, bpe.model or pronunciations.txt into data/lang_<tokens>.
"""
from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import iterate_transcripts
from asr.data.text import Normalizer
from asr.files import fingerprint, run_once
from asr.lm import read_sentences
from asr.tokens import lexicon_files, train_tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="more text, a sentence a line")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    cuts = layout.cuts("train")
    normalize = Normalizer(config.corpus.text)

    def build() -> None:
        texts = [item.text for item in iterate_transcripts(cuts)]
        texts += [normalize(sentence) for path in args.text for sentence in read_sentences(path)]
        tokenizer = train_tokenizer(config.tokens, texts)
        tokenizer.save(layout.lang)
        logging.info("%s: %d tokens from %d texts", layout.lang, tokenizer.vocab_size, len(texts))

    key = fingerprint(cuts, *args.text, *lexicon_files(config.tokens), config.tokens.model_dump(mode="json"),
                      config.corpus.text.model_dump(mode="json"))
    run_once("tokens", [layout.lang / "tokenizer.yaml", layout.lang / "tokens.txt"], key, build)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
