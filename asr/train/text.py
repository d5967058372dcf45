"""Language models on the trainer: what there is to choose, and batches of text."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field, model_validator

from asr.config import Config
from asr.data import BatchConfig
from asr.lm.neural import text_batch
from asr.models.predictors import LstmPredictor, PredictorConfig
from asr.train.config import TrainConfig
from asr.train.distributed import Ranks
from asr.train.optimizers import AdamW, OptimizerConfig
from asr.train.schedules import Cosine, ScheduleConfig
from asr.types import Batch


class LmTrainConfig(TrainConfig):
    """As for other models, with AdamW and half a cosine for defaults; what is about audio cannot be set."""

    epochs: int = Field(default=10, ge=1)
    optimizer: OptimizerConfig = AdamW.Config(lr=0.002)  # type: ignore[valid-type]
    schedule: ScheduleConfig = Cosine.Config(warmup_steps=100)  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _nothing_of_audio(self) -> "LmTrainConfig":
        if self.batches != BatchConfig() or self.init_from or self.activation_checkpointing:
            raise ValueError("a language model has no use for batches (set batch_tokens), init_from and activation_checkpointing")
        return self


class LmConfig(Config):
    """A language model over the recipe's tokens.

    model: a predictor: lstm, transformer (which sees ``layers * (context - 1) + 1`` tokens back), stateless (a neural n-gram).
    text: files with a sentence a line, normalised as the transcripts are; with transcripts, those of the training split are read, too.
    batch_tokens: tokens in a batch, padding included.
    """

    model: PredictorConfig = LstmPredictor.Config(dim=256)  # type: ignore[valid-type]
    text: tuple[str, ...] = ()
    transcripts: bool = True
    batch_tokens: int = Field(default=4000, ge=1)
    train: LmTrainConfig = LmTrainConfig()


class TextBatches:
    """This process's share of one epoch: sentences of nearly equal lengths together, batches in an order of the epoch's own.

    sentences: token ids of each. epoch: None leaves all in one fixed order, for validation.
    """

    def __init__(
        self, sentences: Sequence[Sequence[int]], batch_tokens: int, *, seed: int = 0, epoch: int | None = None, skip: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self._sentences, self._skip, self._ranks = sentences, skip, ranks or Ranks()
        lens = np.array([len(sentence) + 1 for sentence in sentences])
        dice = np.random.default_rng([seed, 0 if epoch is None else epoch + 1])
        order = np.lexsort([dice.random(len(lens)), lens])
        self._batches: list[list[int]] = []
        for row in order.tolist():
            if not self._batches or (len(self._batches[-1]) + 1) * lens[row] > batch_tokens:
                self._batches.append([])
            self._batches[-1].append(row)
        self.num_batches = len(self._batches)
        if epoch is not None:
            self._batches = [self._batches[place] for place in dice.permutation(self.num_batches)]

    def __iter__(self) -> Iterator[Batch]:
        for index in range(self._skip, self.num_batches):
            if index % self._ranks.size == self._ranks.rank:
                rows = self._batches[index]
                yield text_batch([self._sentences[row] for row in rows], [f"sentence {row + 1}" for row in rows])
