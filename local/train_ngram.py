"""Stage 5: estimates n-grams over words (for graphs) and over tokens (for shallow fusion), and prints their perplexity on dev.

    python local/train_ngram.py --config conf/base.yaml --text corpus/lm_text.txt

Writes word.arpa and token.arpa into data/lang_<tokens>, from the training transcripts, the config's ngram.text and --text; and
transcripts.arpa, over the tokens of the transcripts alone.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asr.cli.program import config_arguments, open_experiment, program
from asr.data import iterate_transcripts
from asr.data.text import Normalizer
from asr.files import fingerprint, run_once
from asr.lang import Lang
from asr.lang.lang import SUBWORDS
from asr.lm import estimate, prune, read_arpa, read_sentences, write_arpa
from asr.tokens import load_tokenizer, tokenizer_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="more text, a sentence a line")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    tokenizer, lang = load_tokenizer(layout.lang), Lang(layout.lang)
    cuts, files = layout.cuts("train"), [*map(Path, config.ngram.text), *args.text]
    normalize = Normalizer(config.corpus.text)
    word_arpa, token_arpa, transcripts_arpa = (layout.lang / f"{name}.arpa" for name in ("word", "token", "transcripts"))

    def tokens(text: str) -> list[str]:
        return [tokenizer.symbols[token] for token in tokenizer.encode(text)]

    def build() -> None:
        transcripts = [item.text for item in iterate_transcripts(cuts)]
        texts = transcripts + [normalize(sentence) for path in files for sentence in read_sentences(path)]
        words = estimate([lang.split(text) for text in texts], config.ngram.order, lang.vocabulary, map_unknown=config.lang.oov == "skip")
        write_arpa(prune(words, config.ngram.prune) if config.ngram.prune else words, word_arpa)
        for path, sentences, order in ((token_arpa, texts, config.ngram.token_order),
                                       (transcripts_arpa, transcripts, config.ngram.transcripts_order)):
            write_arpa(estimate([tokens(text) for text in sentences], order, tokenizer.symbols[1:]), path)

    vocabulary = [layout.lang / name for name in ("words.txt", *([SUBWORDS] if config.lang.subwords else []))]
    key = fingerprint(cuts, *files, *vocabulary, *tokenizer_files(layout.lang), config.ngram.model_dump(mode="json"),
                      config.corpus.text.model_dump(mode="json"), config.lang.oov)
    run_once("n-grams", [word_arpa, token_arpa, transcripts_arpa], key, build)
    if layout.cuts("dev").exists():
        dev = [item.text for item in iterate_transcripts(layout.cuts("dev"))]
        units = "words" if lang.subwords is None else "units of words"
        print(f"{units}: {read_arpa(word_arpa).perplexity([lang.split(text) for text in dev])} on dev")
        print(f"tokens: {read_arpa(token_arpa).perplexity([tokens(text) for text in dev])} on dev")


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
