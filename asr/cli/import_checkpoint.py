"""Turn a published Zipformer checkpoint (icefall's LibriSpeech ``zipformer`` recipe) into an experiment to decode with.

    asr import-checkpoint pretrained.pt --dims dims.json --tokens bpe.model --out exp/imported
    asr transcribe --exp-dir exp/imported a.wav

DIMS is a JSON file of the recipe's model options by their names on its command line ("num_encoder_layers": "2,2,3,4,3,2",
...), with feature_dim, vocab_size and context_size. TOKENS is the sentencepiece model, or a tokens.txt of "symbol id" lines.
Corpus, features, searches and all else come from --config where one is given; its model, losses and tokens are replaced.
"""
from __future__ import annotations

import argparse
import logging
from pathlib import Path

from asr.config import dump_config, read_yaml, validate
from asr.experiment import ExperimentConfig, Layout, build_model
from asr.models.import_icefall import Imported, convert, read_dims, read_state_dict
from asr.tokens import Tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.train.checkpoints import CheckpointStore

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the state dict, plain or under the key 'model'")
    parser.add_argument("--dims", type=Path, required=True, help="JSON file of the model's dimensions")
    parser.add_argument("--tokens", type=Path, required=True, help="sentencepiece model (*.model), or tokens.txt")
    parser.add_argument("--out", type=Path, required=True, help="directory of the experiment to write, such as exp/imported")
    parser.add_argument("--config", type=Path, help="YAML file with the rest of the experiment: corpus, features, decode ...")
    parser.add_argument("--sample-rate", type=int, default=16000, help="of the features, where there is no --config (default: 16000)")


def run(args: argparse.Namespace) -> None:
    if (args.out / "config.yaml").exists():
        raise ValueError(f"{args.out}: there is an experiment here already; choose another --out, or remove it")
    imported = convert(read_state_dict(args.checkpoint), read_dims(args.dims))
    tokenizer = _tokenizer(args.tokens, imported.vocab_size)
    config = _config(args, imported, tokenizer)
    if config.features.dim != imported.feature_dim:
        raise ValueError(f"{args.config}: features of {config.features.dim} dimensions, but the model has {imported.feature_dim}")
    try:
        build_model(config, tokenizer).load_state_dict(imported.state)
    except RuntimeError as error:
        raise ValueError(f"{args.checkpoint} does not fit the dimensions in {args.dims}: {error}") from None
    layout = Layout(config, Path("data"), args.out)
    tokenizer.save(layout.tokens)
    # As after one epoch with nothing to average.
    tensors = {"model": imported.state, "average": {"count": 0, "sums": {}}}
    store = CheckpointStore(layout.checkpoints, config.train.checkpoints)
    store.save(tensors, {"position": {"epoch": 1, "step": 1}}, "epoch", 1)
    dump_config(config, layout.config_file)
    log.info("%s: %.1f M parameters, %d tokens", args.out, sum(t.numel() for t in imported.state.values()) / 1e6, tokenizer.vocab_size)


def _tokenizer(path: Path, vocab_size: int) -> Tokenizer:
    if not path.exists():
        raise ValueError(f"{path}: no such tokens file")
    tokenizer: Tokenizer
    try:
        if path.suffix == ".model":
            tokenizer = BpeTokenizer(BpeTokenizer.Config(vocab_size=vocab_size), path.read_bytes())
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            symbols = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]  # '#0' is not the model's
            tokenizer = CharTokenizer(CharTokenizer.Config(), symbols)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"{path}: not a vocabulary with <blk> as number 0 and <unk> among the others ({error})") from None
    if tokenizer.vocab_size != vocab_size:
        raise ValueError(f"{path}: {tokenizer.vocab_size} tokens, but the model has {vocab_size}")
    return tokenizer


def _config(args: argparse.Namespace, imported: Imported, tokenizer: Tokenizer) -> ExperimentConfig:
    if args.config is not None:
        values = read_yaml(args.config)
    else:
        values = {
            "corpus": {"source": {"type": "table"}, "splits": {"test": "test"}, "sample_rate": args.sample_rate},
            "features": {"num_mel_bins": imported.feature_dim, "sample_rate": args.sample_rate, "stored": False},
        }
    losses = {"rnnt": {"type": "pruned_rnnt"}, **({} if imported.config.ctc is None else {"ctc": {"type": "ctc", "weight": 0.2}})}
    values.update(
        name=args.out.name, model=imported.config.model_dump(mode="json"), tokens=tokenizer.config.model_dump(mode="json"),
        losses=losses,
    )
    return validate(ExperimentConfig, values, where=str(args.config or "the imported experiment"))
