"""Stage 5: estimates an n-gram over words (for graphs) and one over tokens (for shallow fusion), and prints their perplexity on dev.

    python local/train_ngram.py --config conf/base.yaml --text corpus/lm_text.txt

Writes word.arpa and token.arpa into data/lang_<tokens>, from the training transcripts, the config's ngram.text and --text.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import read_transcripts
from asr.data.text import Normalizer
from asr.files import fingerprint, run_once
from asr.lang import Lang
from asr.lm import estimate, read_arpa, read_sentences, write_arpa
from asr.tokens import load_tokenizer, tokenizer_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="more text, a sentence a line")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    tokenizer, lang = load_tokenizer(layout.lang), Lang(layout.lang)
    cuts, files = layout.cuts("train"), [*map(Path, config.ngram.text), *args.text]
    normalize = Normalizer(config.corpus.text)
    word_arpa, token_arpa = layout.lang / "word.arpa", layout.lang / "token.arpa"

    def tokens(text: str) -> list[str]:
        return [tokenizer.symbols[token] for token in tokenizer.encode(text)]

    def build() -> None:
        texts = [item.text for item in read_transcripts(cuts)]
        texts += [normalize(sentence) for path in files for sentence in read_sentences(path)]
        words = [text.split() for text in texts]
        write_arpa(estimate(words, config.ngram.order, lang.vocabulary, map_unknown=config.lang.oov == "skip"), word_arpa)
        write_arpa(estimate([tokens(text) for text in texts], config.ngram.token_order, tokenizer.symbols[1:]), token_arpa)

    key = fingerprint(cuts, *files, layout.lang / "words.txt", *tokenizer_files(layout.lang), config.ngram.model_dump(mode="json"),
                      config.corpus.text.model_dump(mode="json"), config.lang.oov)
    run_once("n-grams", [word_arpa, token_arpa], key, build)
    if layout.cuts("dev").exists():
        dev = [item.text for item in read_transcripts(layout.cuts("dev"))]
        print(f"words: {read_arpa(word_arpa).perplexity([text.split() for text in dev])} on dev")
        print(f"tokens: {read_arpa(token_arpa).perplexity([tokens(text) for text in dev])} on dev")


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
