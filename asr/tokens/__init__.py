"""Tokenizers: text to token ids and back."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.config import Config, one_of, read_yaml, validate
from asr.tokens.concatenated import MONOLINGUAL, ConcatenatedTokenizer
from asr.tokens.reduced import ReducedTokenizer
from asr.tokens.tokenizer import BOUNDARY, Tokenizer, WordSpan

__all__ = ["BOUNDARY", "TOKENIZERS", "Tokenizer", "TokensConfig", "WordSpan", "lexicon_files", "load_tokenizer",
           "tokenizer_files", "train_tokenizer"]

TOKENIZERS: dict[str, type[Tokenizer]] = {**MONOLINGUAL, "concatenated": ConcatenatedTokenizer, "reduced": ReducedTokenizer}

TokensConfig = one_of(TOKENIZERS)


class _Stored(Config):
    tokens: TokensConfig  # type: ignore[valid-type]


def train_tokenizer(config: Any, texts: Sequence[str]) -> Tokenizer:
    """A tokenizer of the type that ``config`` (a ``TokensConfig``) names, its vocabulary made from ``texts``."""
    return TOKENIZERS[config.type].train(config, texts)


def tokenizer_files(directory: Path) -> list[Path]:
    """The files of a saved tokenizer, for fingerprints and copies."""
    names = ("tokenizer.yaml", "tokens.txt", "bpe.model", "pronunciations.txt", "originals.txt")
    inner = [path.parent for path in sorted(directory.glob("*/tokenizer.yaml"))]
    return [place / name for place in (directory, *inner) for name in names if (place / name).exists()]


def lexicon_files(config: Any) -> list[Path]:
    """The pronunciation lexicons that a ``TokensConfig`` names."""
    configs = list(config.languages.values()) if config.type == "concatenated" else [config]
    return [Path(inner.lexicon) for inner in configs if inner.type == "phone" and inner.lexicon is not None]


def load_tokenizer(directory: Path | str) -> Tokenizer:
    """The tokenizer that ``Tokenizer.save`` wrote into ``directory``. Raises ValueError where there is none."""
    directory = Path(directory)
    path = directory / "tokenizer.yaml"
    if not path.exists():
        raise ValueError(f"{directory}: there is no tokenizer here (tokenizer.yaml is missing); run stage 3, local/train_tokens.py")
    config: Any = validate(_Stored, {"tokens": read_yaml(path)}, where=str(path)).tokens
    try:
        return TOKENIZERS[config.type].load(config, directory)
    except OSError as error:
        problem = f"{error.strerror}: {error.filename}"
        raise ValueError(f"{directory}: the tokenizer is incomplete: {problem}; run local/train_tokens.py again") from None
