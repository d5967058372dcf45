"""Stage 4: the words that graphs and language models know, and how the tokens spell them.

    python local/prepare_lang.py --config conf/base.yaml --text corpus/lm_text.txt

Writes words.txt, lexicon.txt, lexicon_disambig.txt, L.pt and L_disambig.pt into data/lang_<tokens>, for the words of the training
transcripts, of the config's ngram.text and of --text. With lang.subwords, these are units of words, in data/lang_<tokens>_subwords,
and subwords.txt says how words are cut into them.
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
from asr.lang import build_lang
from asr.lang.lang import SUBWORDS
from asr.lm import read_sentences
from asr.tokens import load_tokenizer, tokenizer_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="more text whose words are wanted")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    tokenizer = load_tokenizer(layout.lang)
    cuts, files = layout.cuts("train"), [*map(Path, config.ngram.text), *args.text]
    normalize = Normalizer(config.corpus.text)

    def build() -> None:
        texts = [item.text for item in iterate_transcripts(cuts)]
        texts += [normalize(sentence) for path in files for sentence in read_sentences(path)]
        lang = build_lang(config.lang, tokenizer, texts, layout.lang)
        logging.info("%s: %d %s", layout.lang, len(lang.vocabulary), "units of words" if lang.subwords else "words")

    key = fingerprint(cuts, *files, *config.lang.files, *tokenizer_files(layout.lang), config.lang.model_dump(mode="json"),
                      config.corpus.text.model_dump(mode="json"))
    outputs = [layout.lang / name for name in ("words.txt", "lexicon.txt", "lexicon_disambig.txt", "L.pt", "L_disambig.pt")]
    outputs += [layout.lang / SUBWORDS] if config.lang.subwords else []
    run_once("language directory", outputs, key, build)


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
