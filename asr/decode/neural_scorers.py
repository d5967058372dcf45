"""Scorers that are neural networks: language models over tokens, and the language model inside the transducer itself.

Shape legend: asr/types.py.
"""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.decode.scorer import BaseScorerConfig, State
from asr.decode.search import Unavailable, need_lang
from asr.decode.stepping import stepping
from asr.lm.neural import NeuralLm, load_lm
from asr.models.layers import fixed
from asr.types import BLANK


class NeuralLmScorer:
    """Shallow fusion with an LSTM or Transformer that 'asr train-lm' trained: Gulcehre et al., "On using monolingual corpora in neural
    machine translation", 2015. With a negative scale, and trained on what the recogniser was trained on, it is the source domain's
    part of a density ratio: McDermott et al., "A density ratio approach to language model fusion in end-to-end speech recognition", 2019.

    State: log-probability (N,) of the end of the sentence, then the model's, rows first: the cached keys and values of a Transformer.
    """

    class Config(BaseScorerConfig):
        """lm: name of the model in the language directory, or the path of another's directory.
        final: whether the end of the sentence is scored too."""

        type: Literal["neural_lm"] = "neural_lm"
        scale: float = 0.3
        lm: str
        final: bool = True

        def lang_files(self) -> tuple[str, ...]:
            return (f"{self.lm}/lm.pt",)

    def __init__(self, config: "NeuralLmScorer.Config", tokenizer: Any, lang: Any, model: Any = None) -> None:
        self.config = config
        path = need_lang(lang, config.lm).directory / config.lm / "lm.pt"
        if not path.exists():
            raise Unavailable(f"the language model {config.lm} is not in {lang.directory}: 'asr train-lm' trains those of the config's lms")
        self.lm = _neural_lm(path, path.stat().st_mtime_ns, tuple(tokenizer.symbols))

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        self.lm.to(device)
        return self._scored(*self.lm.start(n, device))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        return self._scored(*self.lm.step(tokens_N, state[1:]))

    def final(self, state: State) -> Tensor:
        return state[0] if self.config.final else torch.zeros_like(state[0])

    @staticmethod
    def _scored(log_probs_NV: Tensor, state: State) -> tuple[Tensor, State]:
        end_N = log_probs_NV[:, BLANK].clone()
        log_probs_NV[:, BLANK] = 0.0
        return log_probs_NV, (end_N, *state)


@lru_cache(maxsize=4)
def _neural_lm(path: Path, modified: int, symbols: tuple[str, ...]) -> NeuralLm:
    """Read once for all the scales that are tried. modified: the file's time, so that a new file is read anew."""
    return load_lm(path, symbols).requires_grad_(False)


class InternalLm:
    """What the transducer expects to come next without having heard anything: its tokens' probabilities for an encoder frame of zeros,
    normalised without blank. Subtracted (a negative scale), it leaves more say to the other language models.

    Meng et al., "Internal language model estimation for domain-adaptive end-to-end speech recognition", SLT 2021, section 3.1; Variani
    et al., "Hybrid autoregressive transducer (HAT)", ICASSP 2020, section 3.2, whose labels are normalised without blank as they are.
    State: the predictor's. The end of the utterance, which a transducer does not predict, scores nothing.
    """

    class Config(BaseScorerConfig):
        type: Literal["internal_lm"] = "internal_lm"
        scale: float = -0.1

    def __init__(self, config: "InternalLm.Config", tokenizer: Any, lang: Any, model: Any = None) -> None:
        if not hasattr(model, "joiner"):
            raise Unavailable("internal_lm is the language model inside a transducer: this search has none")
        self.predictor, self.joiner = stepping(model.predictor), fixed(model.joiner)
        zeros_D = torch.zeros(model.joiner.encoder_proj.in_features, device=next(model.parameters()).device)
        self.nothing_heard_J = model.joiner.project_encoder(zeros_D).detach()

    def start(self, n: int, device: torch.device | str) -> tuple[Tensor, State]:
        return self._scored(*self.predictor.start(n, device))

    def step(self, tokens_N: Tensor, state: State) -> tuple[Tensor, State]:
        return self._scored(*self.predictor.step(tokens_N, state))

    def final(self, state: State) -> Tensor:
        return torch.zeros(len(state[0]), device=state[0].device)

    def _scored(self, out_ND: Tensor, state: State) -> tuple[Tensor, State]:
        logits_NV, _ = self.joiner.split(self.joiner(self.nothing_heard_J, self.joiner.project_predictor(out_ND)))
        return F.pad(logits_NV[:, BLANK + 1 :].float().log_softmax(-1), (1, 0)), state
