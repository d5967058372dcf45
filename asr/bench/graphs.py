"""Size, time and memory of decoding graphs: CMUdict's 135,000 words and an n-gram over texts of a folder.

    asr bench graphs [--text DIR] [--engine openfst] [--order 3] [--prune 1e-7] [--topology standard] [--search]

One row a step, with CPU seconds and the peak memory of the whole process so far; the graphs that come out; how far the forecast was off.
--search: also searches made-up posteriors with each engine that is installed.
"""
from __future__ import annotations

import argparse
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from asr import fsa
from asr.decode.ctc_graph import CtcGraph
from asr.lang import Lang, LangConfig, graphs, make_lexicon, write_lang
from asr.lm import NgramLm, estimate
from asr.tokens import train_tokenizer
from asr.tokens.phone import PhoneTokenizer
from asr.types import EncoderOut

FILES = ("lj_sentences.txt", "librispeech_dev_clean.txt")


class Steps:
    def __init__(self) -> None:
        self.began = self.last = time.process_time()

    def done(self, what: str) -> None:
        now, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{what:<50} {now - self.last:8.1f} s   peak {peak:5.2f} GiB   {now - self.began:8.1f} s in all", flush=True)
        self.last = time.process_time()


def texts(folder: Path) -> list[str]:
    lines = [line for name in FILES for line in (folder / name).read_text().splitlines()]
    return [" ".join(re.findall(r"[a-z']+", line.lower())) for line in lines]


def language(folder: Path, directory: Path) -> tuple[Lang, list[str]]:
    tokenizer = train_tokenizer(PhoneTokenizer.Config(lexicon=str(folder / "cmudict.dict"), oov="unk"), texts(folder))
    tokenizer.save(directory)
    config = LangConfig(lexicon=str(folder / "cmudict.dict"), oov="skip")
    return write_lang(make_lexicon(config, tokenizer, []), tokenizer.symbols, directory), texts(folder)


def ngram(lang: Lang, lines: list[str], order: int, threshold: float) -> NgramLm:
    lm = estimate([line.split() for line in lines], order, lang.vocabulary, map_unknown=True)
    if threshold:
        from asr.lm.pruning import prune

        lm = prune(lm, threshold)
    return lm


def bench_search(lang: Lang, lines: list[str], steps: Steps) -> None:
    """20 utterances of 10 s at 40 ms: texts with posteriors of about 0.8 for the right label, half a second a word."""
    generator = torch.Generator().manual_seed(1)
    frames_BSV = torch.randn(20, 250, len(lang.tokens), generator=generator)
    lens = []
    for frames_SV, line in zip(frames_BSV, lines[::700]):
        labels = [label for word in line.split() if word in lang.lexicon for token in lang.lexicon[word][0] for label in (token, token, 0)]
        labels = labels[: len(frames_SV) - 1]
        frames_SV[torch.arange(len(labels)), torch.tensor(labels)] += 5.0
        lens.append(len(labels))
    model: Any = torch.nn.Linear(1, 1)
    model.ctc, model.ctc_log_probs = True, lambda out: out.frames_BSD.log_softmax(-1)
    tokenizer = PhoneTokenizer.load(PhoneTokenizer.Config(lexicon=""), lang.directory)
    for engine in ("k2", "numpy") if fsa.available() else ("numpy",):
        for n in (1, 20):
            search = CtcGraph(CtcGraph.Config(engine=engine, nbest=n), model, tokenizer, lang)
            steps.done(f"graph loaded for {engine}")
            found = search.decode(EncoderOut(frames_BSV, torch.tensor(lens)))
            steps.done(f"{engine}, {n}-best, {sum(lens) * 0.04:.0f} s of audio, {sum(len(h) for h in found)} hypotheses")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", type=Path, default=Path("../shared/corpora/text"), help="where cmudict.dict and the texts are")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--prune", type=float, default=0.0, help="entropy pruning threshold")
    parser.add_argument("--topology", default="standard")
    parser.add_argument("--search", action="store_true")


def run(args: argparse.Namespace) -> None:
    missing = [name for name in ("cmudict.dict", *FILES) if not (args.text / name).exists()]
    if missing:
        raise ValueError(f"--text: {args.text} has no {', '.join(missing)}")
    steps = Steps()
    with tempfile.TemporaryDirectory() as directory:
        lang, lines = language(args.text, Path(directory))
        steps.done(f"lexicon: {len(lang.vocabulary)} words, {sum(map(len, lang.lexicon.values()))} pronunciations")
        lm = ngram(lang, lines, args.order, args.prune)
        steps.done("n-gram: " + ", ".join(map(str, map(len, lm.orders))))
        config = LangConfig(engine=args.engine, topology=args.topology)
        forecast = graphs.forecast(lang, graphs.grammar(lm, lang.word_ids), config)
        steps.done(f"forecast: {forecast} arcs, {forecast * graphs.BYTES_PER_ARC / 2**30:.2f} GiB")
        graphs.compile_graphs(lang, lm, config, lines[:20])
        hlg = lang.fst("HLG")
        steps.done(f"LG: {lang.fst('LG')}; HLG: {hlg}")
        print(f"forecast / arcs: {forecast / hlg.num_arcs:.2f}")
        if args.search:
            bench_search(lang, lines, steps)
