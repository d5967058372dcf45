"""Stage 5: composes the decoding graphs LG (for transducers) and HLG (for CTC) by k2 or OpenFst, and checks them.

    python local/compile_graph.py --config conf/base.yaml

Reads L_disambig.pt and word.arpa in data/lang_<tokens>, writes LG.pt and HLG.pt beside them. Where neither k2 nor OpenFst
(pip install pynini) is installed, it says so and does nothing.
"""
from __future__ import annotations

import argparse
import logging
import random
import sys

from asr import fsa
from asr.cli.program import config_arguments, open_experiment, program
from asr.data import iterate_transcripts
from asr.files import fingerprint, run_once
from asr.lang import Lang, graphs, openfst
from asr.lm import read_arpa


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--check", type=int, default=100, metavar="N", help="training texts looked up in the graphs (default: 100)")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    if not (fsa.available() or openfst.available()):
        print("neither k2 nor OpenFst (pip install pynini) is installed: LG and HLG are skipped, and with them the searches over them; "
              "greedy and beam searches with the token n-gram need neither")
        return
    lang, arpa = Lang(layout.lang), layout.lang / "word.arpa"

    def build() -> None:
        texts = sorted({item.text for item in iterate_transcripts(layout.cuts("train"))})
        some = random.Random(config.seed).sample(texts, min(args.check, len(texts)))
        graphs.compile_graphs(lang, read_arpa(arpa), config.lang, some)

    made_of = [layout.lang / "L_disambig.pt", layout.lang / "words.txt", layout.lang / "tokens.txt", arpa]
    key = fingerprint(*made_of, config.lang.topology, config.lang.engine, config.lang.graph_order)
    run_once("graphs", [layout.lang / "LG.pt", layout.lang / "HLG.pt"], key, build)
    for name in ("LG", "HLG"):
        logging.info("%s: %s", name, lang.fst(name))


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
