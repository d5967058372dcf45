"""Subwords by sentencepiece: byte-pair encoding (Sennrich et al. 2016) or a unigram LM (Kudo 2018)."""
from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import sentencepiece
from pydantic import Field

from asr.config import Config as BaseConfig
from asr.files import atomic_write
from asr.tokens.tokenizer import BLANK_SYMBOL, BOUNDARY, UNK_SYMBOL, Tokenizer, check_texts, language_tags

# A code point that no text contains, in place of a boundary mark in a text, which sentencepiece would take for a space.
_NO_CHARACTER = "\uffff"


class BpeTokenizer(Tokenizer):
    class Config(BaseConfig):
        type: Literal["bpe"] = "bpe"
        vocab_size: int = Field(default=500, ge=4)
        model: Literal["bpe", "unigram"] = "bpe"

        @property
        def name(self) -> str:
            return f"{self.model}_{self.vocab_size}"

    def __init__(self, config: "BpeTokenizer.Config", model: bytes) -> None:
        """model: a serialised sentencepiece model whose piece 0 is ``<blk>``."""
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        super().__init__(config, [self._pieces.id_to_piece(i) for i in range(self._pieces.get_piece_size())])

    def encode(self, text: str) -> list[int]:
        words = text.replace(BOUNDARY, _NO_CHARACTER).split()
        return [token for tokens in self._pieces.encode(words) for token in tokens]

    def encode_word(self, word: str) -> list[int]:
        return self.encode(word)

    def pronunciations(self, word: str, segmentations: int = 1) -> list[list[int]]:
        first = self.encode_word(word)
        others = self.spellings(BOUNDARY + word, segmentations) if segmentations > 1 else []
        return [first, *(tokens for tokens in others if tokens != first)][:segmentations]

    def costs(self) -> list[float]:
        """Of a unigram model its negated log-probabilities, so that the cheapest segmentations are its likeliest."""
        if self.config.model == "bpe":
            return super().costs()
        return [-self._pieces.get_score(token) for token in range(self.vocab_size)]

    def unknown(self, text: str) -> list[str]:
        words = text.replace(BOUNDARY, _NO_CHARACTER).split()
        ids, pieces = (self._pieces.encode(words, out_type=kind, num_threads=1) for kind in (int, str))
        found = [pair for pairs in zip(ids, pieces) for pair in zip(*pairs)]
        unknown = dict.fromkeys(surface for token, surface in found if token == self.unk_id)
        return [surface.replace(_NO_CHARACTER, BOUNDARY) for surface in unknown]

    @classmethod
    def train(cls, config: "BpeTokenizer.Config", texts: Sequence[str]) -> "BpeTokenizer":
        check_texts(texts)
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(" ".join(text.split()) for text in texts), model_writer=model,
                vocab_size=config.vocab_size, model_type=config.model,
                character_coverage=1.0, normalization_rule_name="identity", max_sentence_length=1 << 20,
                pad_id=0, pad_piece=BLANK_SYMBOL, unk_id=1, unk_piece=UNK_SYMBOL, bos_id=-1, eos_id=-1, minloglevel=2,
                user_defined_symbols=[BOUNDARY + tag for tag in language_tags(texts)],
            )
        except RuntimeError as error:
            raise ValueError(_explain(str(error), config.vocab_size)) from None
        return cls(config, model.getvalue())

    @classmethod
    def load(cls, config: "BpeTokenizer.Config", directory: Path) -> "BpeTokenizer":
        return cls(config, (directory / "bpe.model").read_bytes())

    def _save_model(self, directory: Path) -> None:
        with atomic_write(directory / "bpe.model", "wb") as file:
            file.write(self._pieces.serialized_model_proto())


def _explain(message: str, vocab_size: int) -> str:
    if found := re.search(r"Vocabulary size too high \(\d+\).*<= (\d+)", message):
        return (f"tokens.vocab_size: the training text allows at most {found[1]} subwords, {vocab_size} were asked for; "
                f"set tokens.vocab_size={found[1]} or less")
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return (f"tokens.vocab_size: the training text's characters alone need at least {found[1]} tokens, {vocab_size} were asked for; "
                f"set tokens.vocab_size={found[1]} or more")
    return f"sentencepiece cannot train {vocab_size} subwords: {message}"
