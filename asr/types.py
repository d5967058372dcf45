"""The words every package shares.

Shape legend, used as suffixes of tensor names throughout the project:

    B  utterances in a batch          N  hypotheses (rows of a search)
    T  feature frames                 S  encoder frames (after subsampling)
    F  feature bins                   D  channels of a hidden layer
    U  tokens of a transcript         V  vocabulary, blank (id 0) included
    Q  codebooks of discrete units    C  numbers of a frame that stand before its units
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Mapping, Sequence

import torch
from torch import Tensor

BLANK = 0
"""Token id of the blank symbol in every vocabulary of this toolkit."""

LANGUAGE_TAG = re.compile(r"<lang:([^<>\s]+)>")
"""A word of a transcript that says in which language those after it are; models learn to recognise it like any other word."""


def language_tag(language: str) -> str:
    return f"<lang:{language}>"


def split_language(text: str) -> tuple[str | None, str]:
    """The language of the first tag in ``text``, None without one, and the words that are no tags."""
    words = text.split()
    found = [match[1] for word in words if (match := LANGUAGE_TAG.fullmatch(word))]
    return (found[0], " ".join(word for word in words if not LANGUAGE_TAG.fullmatch(word))) if found else (None, text)


@dataclass(frozen=True)
class UnitSpace:
    """Which discrete units there are: ids 0..vocabulary-1 in each of the codebooks; ``vocabulary`` itself is that of a masked unit."""

    codebooks: int
    vocabulary: int

    def check(self, units_BTQ: Tensor) -> None:
        """Raises ValueError for units of other codebooks or of a larger vocabulary."""
        if units_BTQ.shape[-1] != self.codebooks:
            raise ValueError(f"the model was trained on units of {self.codebooks} codebooks, these have {units_BTQ.shape[-1]}")
        if units_BTQ.numel() and (highest := int(units_BTQ.max())) > self.vocabulary:
            raise ValueError(f"the model was trained on units 0 to {self.vocabulary - 1}, and there is a {highest}: another extractor's?")


@dataclass(frozen=True)
class Targets:
    """Token sequences of a batch.

    tokens_BU: int64 (B, U), padded with ``BLANK``.
    lens_B: int64 (B,), the number of real tokens of each row; may be zero.
    codes_BTQ: int64 (B, T, Q), padded with -1, the units beside the features, at their own rate, where a loss predicts them.
    """

    tokens_BU: Tensor
    lens_B: Tensor
    codes_BTQ: Tensor | None = None

    @classmethod
    def from_lists(cls, sequences: Sequence[Sequence[int]]) -> "Targets":
        lens_B = torch.tensor([len(s) for s in sequences], dtype=torch.int64)
        longest = int(lens_B.max()) if len(sequences) else 0
        tokens_BU = torch.full((len(sequences), longest), BLANK, dtype=torch.int64)
        for row, sequence in enumerate(sequences):
            tokens_BU[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        return cls(tokens_BU, lens_B)

    def to_lists(self) -> list[list[int]]:
        return [row[:n] for row, n in zip(self.tokens_BU.tolist(), self.lens_B.tolist())]

    def to(self, device: torch.device | str) -> "Targets":
        return Targets(self.tokens_BU.to(device), self.lens_B.to(device), None if self.codes_BTQ is None else self.codes_BTQ.to(device))


@dataclass(frozen=True)
class Batch:
    """One mini-batch, as the data package makes it.

    features_BTF: float32 (B, T, F), padded with the features' padding value. Discrete units are int64 (B, T, Q), an id of each of Q
        codebooks, in 0..vocabulary-1, padded with -1; units beside other features are the last Q of the F columns, any negative number
        being padding.
    feature_lens_B: int64 (B,), frames of each utterance, 1 <= lens <= T.
    ids: B utterance (cut) ids, for error messages and results.
    texts: B transcripts after text normalisation.
    durations: B durations in seconds.
    targets: token sequences, or None where the data was loaded without a tokenizer.
    copies: of each utterance, differently augmented; the B rows are all utterances, and all of them again.
    before_BTQ, after_BTQ: int64, padded with -1, the units of the utterance before and after in the same recording, where the model
        looks at them; an utterance without such a neighbour has nothing but padding.
    unit_starts: for units that last several frames of the extractor (without repetitions, or subwords), B tensors int64 (lens + 1,):
        the frame at which each begins, and then the number of frames. Times the features' frame shift, these are seconds. Else None.
    """

    features_BTF: Tensor
    feature_lens_B: Tensor
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    durations: tuple[float, ...]
    targets: Targets | None = None
    copies: int = 1
    before_BTQ: Tensor | None = None
    after_BTQ: Tensor | None = None
    unit_starts: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def utterances(self) -> int:
        """How many there are, copies not counted."""
        return len(self) // self.copies

    def to(self, device: torch.device | str) -> "Batch":
        return replace(
            self, features_BTF=self.features_BTF.to(device), feature_lens_B=self.feature_lens_B.to(device),
            targets=None if self.targets is None else self.targets.to(device),
            before_BTQ=None if self.before_BTQ is None else self.before_BTQ.to(device),
            after_BTQ=None if self.after_BTQ is None else self.after_BTQ.to(device),
        )


@dataclass(frozen=True)
class EncoderOut:
    """What an encoder gives.

    frames_BSD: float (B, S, D).
    lens_B: int64 (B,), valid frames of each utterance; frames beyond are unspecified.
    copies: of each utterance, as in the batch.
    """

    frames_BSD: Tensor
    lens_B: Tensor
    copies: int = 1


@dataclass(frozen=True)
class LossOut:
    """What a loss gives.

    total_B: float32 (B,), the negative log-likelihood to minimise, per utterance, summed over frames;
        +inf where an utterance has no alignment (never NaN).
    parts: detached (B,) tensors worth logging, by name.
    """

    total_B: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Hypothesis:
    """One result of a search over one utterance.

    tokens: token ids without blanks.
    score: the log-probability by which the search ranked it, every scorer included.
    scores: the same by component ("model", and each scorer by its name).
    frames: encoder frame at which each token was emitted, or None where the search does not know.
    durations: encoder frames that each token lasts, where the model has learnt durations (TDT), or of CTC the length of its run of
        labels; else None.
    confidences: per token, in 0..1, or None.
    words: set by word-level graph searches only; otherwise the tokenizer makes words of tokens.
    word_frames: start frame of each of ``words``, or None.
    """

    tokens: tuple[int, ...]
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    frames: tuple[int, ...] | None = None
    confidences: tuple[float, ...] | None = None
    words: tuple[str, ...] | None = None
    word_frames: tuple[int, ...] | None = None
    durations: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Word:
    """A recognised word with its times in seconds from the start of the utterance (None where unknown)."""

    text: str
    start: float | None = None
    end: float | None = None
    confidence: float | None = None
