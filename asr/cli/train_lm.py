"""Train the language models of a config's 'lms' section: over tokens, for 'neural_lm' scorers in searches and rescoring.

    asr train-lm --config conf/base.yaml --text corpus/lm_text.txt           # all of them
    asr train-lm --config conf/base.yaml --lms rnn_lm --set lms.rnn_lm.train.epochs=5

Each is an experiment in the language directory, data/lang_<tokens>/<name>/, beside the n-grams: config.yaml, train.jsonl, tensorboard/,
checkpoints/, and lm.pt, the averaged weights, which searches read. Like 'asr train', the same command goes on exactly where it was.
"""
from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path
from typing import Any

from asr.cli.program import config_arguments, open_experiment
from asr.cli.train import FREE
from asr.config import dump_config
from asr.data import read_transcripts
from asr.data.text import Normalizer
from asr.experiment import ExperimentConfig, Layout
from asr.files import fingerprint
from asr.lm import read_sentences
from asr.lm.neural import NeuralLm, NextToken, load_lm, perplexity, save_lm
from asr.tokens import Tokenizer, load_tokenizer
from asr.train import Trainer
from asr.train.checkpoints import average_state
from asr.train.distributed import Ranks
from asr.train.step import seed_everything
from asr.train.text import LmConfig, TextBatches

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--lms", nargs="+", metavar="NAME", help="only these of the config's language models (default: all)")
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE",
                        help="more text for all of them, a sentence a line; models without 'transcripts' need some here or in their config")
    parser.add_argument("--resume", choices=("auto", "never"), default="auto",
                        help="auto (default): go on from the newest checkpoint; never: remove what an earlier run left, start anew")


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    if unknown := set(args.lms or ()) - config.lms.keys():
        raise ValueError(f"--lms: '{min(unknown)}' is not one of the config's lms: {', '.join(config.lms) or 'there are none'}")
    if not config.lms:
        log.info("no language models to train: the config's lms is empty")
        return
    tokenizer = load_tokenizer(layout.lang)
    ranks = Ranks.from_environment()
    for name in args.lms or config.lms:
        train(name, config.lms[name], config, layout, tokenizer, args.text, args.resume, ranks)
    ranks.close()


def train(
    name: str, lm_config: LmConfig, config: ExperimentConfig, layout: Layout, tokenizer: Tokenizer, more_text: list[Path], resume: Any,
    ranks: Ranks,
) -> None:
    """Trains one language model, and prints its perplexity on dev."""
    directory, saved = layout.lm(name), layout.lm(name) / "lm.pt"
    sentences = [tokenizer.encode(text) for text in _texts(lm_config, config, layout, more_text)]
    if not sentences:
        raise ValueError(f"lms.{name}: there is no text; set its 'text', give --text, or set transcripts: true")
    seed_everything(config.seed)
    lm = NeuralLm(lm_config.model, tokenizer.vocab_size)
    identity = {"seed": config.seed, "text": fingerprint(sentences, tokenizer.symbols)[:16],
                **lm_config.model_dump(mode="json", include={"model", "batch_tokens", "train"}, exclude={"train": FREE})}
    trainer = Trainer(lm_config.train, lm, NextToken(), directory, seed=config.seed, resume=resume, identity=identity, ranks=ranks)
    if ranks.main and not trainer.up_to_date:
        saved.unlink(missing_ok=True)
        dump_config(lm_config, directory / "config.yaml")
    dev = [tokenizer.encode(t.text) for t in read_transcripts(layout.cuts("dev"))] if layout.cuts("dev").exists() else []
    validation = partial(TextBatches, dev, lm_config.batch_tokens)
    outcome = trainer.run(
        lambda epoch, skip: TextBatches(sentences, lm_config.batch_tokens, seed=config.seed, epoch=epoch, skip=skip, ranks=ranks),
        validation if dev else None)
    if outcome == "stopped" or not ranks.main:
        return
    if not saved.exists():
        save_lm(saved, lm_config.model, tokenizer.symbols, average_state(directory))
    log.info("%s: %s", directory, outcome.replace("finished", f"{trainer.position.step} steps, {trainer.seconds / 60:.1f} min"))
    if dev:
        print(f"{name}, tokens: {perplexity(load_lm(saved, tokenizer.symbols), validation())} on dev")


def _texts(lm_config: LmConfig, config: ExperimentConfig, layout: Layout, more_text: list[Path]) -> list[str]:
    normalize = Normalizer(config.corpus.text)
    texts = [item.text for item in read_transcripts(layout.cuts("train"))] if lm_config.transcripts else []
    return texts + [normalize(line) for path in [*map(Path, lm_config.text), *more_text] for line in read_sentences(path)]
