"""Perplexity of language models: n-grams over words or tokens, and neural ones, of the language directory or anywhere.

    python local/perplexity.py --config conf/base.yaml word.arpa token.arpa rnn_lm              # of the transcripts of dev
    python local/perplexity.py --config conf/base.yaml /elsewhere/word.arpa --text more.txt     # of a text

Each sentence's end counts as one more word, or token. Models over tokens are told by their vocabulary, which has every token.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import read_transcripts
from asr.data.text import Normalizer
from asr.lang import Lang
from asr.lm import Perplexity, read_arpa, read_sentences
from asr.lm.neural import load_lm, perplexity
from asr.tokens import Tokenizer, load_tokenizer
from asr.train.text import TextBatches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("lms", nargs="+", metavar="LM", help="ARPA file or directory of 'asr train-lm'; names are the language directory's")
    parser.add_argument("--split", default="dev", help="whose transcripts (default: dev)")
    parser.add_argument("--text", type=Path, nargs="+", metavar="FILE",
                        help="texts instead, a sentence a line; normalised as transcripts are")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    tokenizer, normalize = load_tokenizer(layout.lang), Normalizer(config.corpus.text)
    if args.text:
        texts = [normalize(line) for path in args.text for line in read_sentences(path)]
    else:
        texts = [item.text for item in read_transcripts(layout.cuts(args.split))]
    for name in args.lms:
        unit, found = measure(layout.lang / name, texts, tokenizer, Lang(layout.lang))
        print(f"{name}, {unit}: {found}")


def measure(path: Path, texts: list[str], tokenizer: Tokenizer, lang: Lang) -> tuple[str, Perplexity]:
    """(what the model is over, its perplexity)."""
    tokens = [tokenizer.encode(text) for text in texts]
    if path.is_dir():
        return "tokens", perplexity(load_lm(path / "lm.pt", tokenizer.symbols), TextBatches(tokens, batch_tokens=4000))
    ngram = read_arpa(path)
    if ngram.ids.keys() >= set(tokenizer.symbols[1:]):
        return "tokens", ngram.perplexity([[tokenizer.symbols[token] for token in sentence] for sentence in tokens])
    return "words" if lang.subwords is None else "units of words", ngram.perplexity([lang.split(text) for text in texts])


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
