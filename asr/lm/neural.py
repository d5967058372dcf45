"""Neural language models over tokens: one of the transducer's predictors (LSTM, Transformer of bounded context) with an output layer.

Blank, which no text contains, stands for the border of a sentence: as input it begins one, as output it ends one.
Mikolov et al., "Recurrent neural network based language model", 2010; Vaswani et al., "Attention is all you need", 2017.
Shape legend: asr/types.py.
"""
from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config, validate
from asr.files import save_tensors
from asr.lm.ngram import Perplexity
from asr.models.layers import Linear
from asr.models.predictors import PREDICTORS, PredictorConfig
from asr.types import Batch, EncoderOut, LossOut, Targets

State = tuple[Tensor, ...]


class NeuralLm(nn.Module):
    """Log-probabilities (..., V) of what follows: of each token, and in column 0 of the end of the sentence.

    ``start`` and ``step`` are ``forward`` one token at a time; their state is the predictor's, see asr/models/predictors.py.
    """

    def __init__(self, config: Any, vocab_size: int) -> None:
        """config: a ``PredictorConfig``."""
        super().__init__()
        self.predictor: Any = PREDICTORS[config.type](config, vocab_size)
        self.output = Linear(self.predictor.output_dim, vocab_size)

    def forward(self, tokens_BU: Tensor) -> Tensor:
        """(B, U + 1, V): row u has seen the first u tokens."""
        return self.output(self.predictor(tokens_BU)).float().log_softmax(-1)

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        """(N, V) at the beginning of ``n`` sentences."""
        out_ND, state = self.predictor.start(n, device)
        return self.output(out_ND).float().log_softmax(-1), state

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        """(N, V) after one more token each."""
        out_ND, state = self.predictor.step(tokens_N, state)
        return self.output(out_ND).float().log_softmax(-1), state

    def encode(self, features_BTF: Tensor, lens_B: Tensor, before_BTQ: None = None, after_BTQ: None = None) -> EncoderOut:
        """What the trainer asks of a model; the features are those of :func:`text_batch`, and text has no neighbours."""
        return EncoderOut(self.predictor(features_BTF[:, 1:, 0]), lens_B)

    def on_step(self, step: int) -> None:
        """Nothing here changes with the training step."""


class NextToken(nn.Module):
    """The loss of a language model: -log P of each sentence, its end included. A frame is a prediction, so the loss per frame is
    the logarithm of the perplexity."""

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: NeuralLm, step: int) -> LossOut:
        logits_BUV = model.output(encoder_out.frames_BSD).float()
        labels_BU = F.pad(targets.tokens_BU, (0, 1))  # behind the last token comes 0, the end
        losses_BU = F.cross_entropy(logits_BUV.transpose(1, 2), labels_BU, reduction="none")
        position_U = torch.arange(labels_BU.shape[1], device=labels_BU.device)
        return LossOut(losses_BU.masked_fill(position_U > targets.lens_B.unsqueeze(1), 0.0).sum(1))


def text_batch(sentences: Sequence[Sequence[int]], ids: Sequence[str]) -> Batch:
    """Sentences as the trainer takes them: the "features" (B, U + 1, 1) are the border and the tokens, and nothing lasts any time."""
    targets = Targets.from_lists(sentences)
    inputs_BTF = F.pad(targets.tokens_BU, (1, 0)).unsqueeze(2)
    return Batch(inputs_BTF, targets.lens_B + 1, tuple(ids), ("",) * len(sentences), (0.0,) * len(sentences), targets)


@torch.no_grad()
def perplexity(lm: NeuralLm, batches: Iterable[Batch]) -> Perplexity:
    """Of batches of :func:`text_batch`; each sentence's end counts as a token."""
    device = next(lm.parameters()).device
    log_prob, tokens, sentences = 0.0, 0, 0
    for batch in batches:
        batch = batch.to(device)
        assert batch.targets is not None
        log_prob -= float(NextToken()(lm.encode(batch.features_BTF, batch.feature_lens_B), batch.targets, lm, 0).total_B.double().sum())
        tokens += int(batch.targets.lens_B.sum())
        sentences += len(batch)
    value = math.exp(min(-log_prob / max(tokens + sentences, 1), 300.0))
    return Perplexity(value, tokens, 0, sentences, log_prob / math.log(10))


def save_lm(path: Path, config: Any, symbols: Sequence[str], state: Mapping[str, Tensor]) -> None:
    """One file with all that scoring needs. config: the ``PredictorConfig``; symbols: of each token id, blank first."""
    values = {"model": config.model_dump(mode="json"), "symbols": list(symbols)}
    save_tensors({"state": dict(state), "values": json.dumps(values)}, path)


class _Saved(Config):
    model: PredictorConfig  # type: ignore[valid-type]
    symbols: list[str]


def load_lm(path: Path, symbols: Sequence[str]) -> NeuralLm:
    """What :func:`save_lm` wrote, in eval mode, on the CPU. Raises ValueError for another file and for other tokens than ``symbols``."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a language model of 'asr train-lm'")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        values = validate(_Saved, json.loads(saved["values"]), where=str(path))
    except (RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a language model of 'asr train-lm', or damaged ({str(error)[:200]})") from None
    if values.symbols != list(symbols):
        raise ValueError(f"{path}: a language model over {len(values.symbols)} other tokens than these {len(symbols)}; "
                         "train it again with 'asr train-lm --resume never'")
    lm = NeuralLm(values.model, len(symbols))
    lm.load_state_dict(saved["state"])
    return lm.eval()
