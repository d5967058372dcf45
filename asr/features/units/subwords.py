"""Sequences of units as subwords of sentencepiece: frequent runs of units become one, and each knows how many it stands for.

Chang et al., "Exploring Speech Recognition, Translation, and Understanding with Discrete Speech Units", ICASSP 2024.
"""
from __future__ import annotations

import io
import re
from typing import Iterable, Literal, Sequence

import sentencepiece

FIRST_CHARACTER = 0xF0000
"""Unit n is written as this character plus n, of Unicode's supplementary private use area."""

Kind = Literal["bpe", "unigram"]


class UnitSubwords:
    """model: a serialised sentencepiece model, as :meth:`train` gives it. Id 0 is sentencepiece's unknown piece, which never occurs."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.units = [[ord(character) - FIRST_CHARACTER for character in self._pieces.id_to_piece(piece)]
                      for piece in range(1, self._pieces.get_piece_size())]
        self.units.insert(0, [])
        """The units that each id stands for."""

    def __len__(self) -> int:
        return len(self.units)

    def encode(self, units: Sequence[int]) -> list[int]:
        """Ids whose ``units``, one after the other, are ``units`` again."""
        ids: list[int] = self._pieces.encode(_text(units))
        return ids

    def decode(self, ids: Sequence[int]) -> list[int]:
        return [unit for id in ids for unit in self.units[id]]

    @classmethod
    def train(cls, sequences: Iterable[Sequence[int]], vocabulary: int, size: int, kind: Kind) -> "UnitSubwords":
        """vocabulary: of the units, all of which become pieces, so that whatever comes later can be encoded. size: number of ids.

        Raises ValueError where the sequences do not have so many different runs.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=map(_text, sequences), model_writer=model, vocab_size=size, model_type=kind,
                required_chars=_text(range(vocabulary)), character_coverage=1.0, normalization_rule_name="identity",
                add_dummy_prefix=False, max_sentence_length=1 << 24, num_threads=1, minloglevel=2,
                unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
            )
        except RuntimeError as error:
            found = re.search(r"Vocabulary size too high \(\d+\).*<= (\d+)", str(error))
            most = f"the training split allows at most {found[1]}" if found else str(error)
            raise ValueError(f"features.bpe: sentencepiece cannot make {size} ids of these units: {most}") from None
        return cls(model.getvalue())


def _text(units: Iterable[int]) -> str:
    return "".join(chr(FIRST_CHARACTER + unit) for unit in units)
