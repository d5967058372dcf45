"""Minimum word error rate training: the expected number of errors among what a beam search finds.

Prabhavalkar et al., "Minimum word error rate training for attention-based sequence-to-sequence models", ICASSP 2018, section 3.2;
for transducers Guo et al., "Efficient minimum word error rate training of RNN-Transducer for end-to-end speech recognition",
Interspeech 2020. Shape legend: asr/types.py; K counts the candidates of an utterance, N those of all utterances.
"""
from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.losses.paths import IMPOSSIBLE
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.pruned_tdt import PrunedTdt
from asr.losses.rnnt import Rnnt
from asr.losses.tdt import Tdt
from asr.models.transducer import Transducer
from asr.types import EncoderOut, LossOut, Targets

LIKELIHOODS: dict[str, Any] = {"rnnt": Rnnt, "pruned_rnnt": PrunedRnnt, "tdt": Tdt, "pruned_tdt": PrunedTdt}
Unit = Literal["words", "tokens"]


class Candidate(NamedTuple):
    """A token sequence that the model may have meant, and its edit distance from the transcript."""

    tokens: tuple[int, ...]
    errors: int


class NBest(Protocol):
    """Different candidates of each utterance, at least one and at most ``beam``. A search gives them, which losses may not import."""

    def __call__(self, encoder_out: EncoderOut, targets: Targets, beam: int, unit: Unit) -> list[list[Candidate]]: ...


class Mwer(nn.Module):
    """sum over candidates of P(candidate) (errors - mean errors), where their probabilities are made to add up to 1, plus
    ``likelihood_scale`` times the loss of the transcript."""

    class Config(BaseConfig):
        """beam: of the modified beam search that finds the candidates, without scorers. unit: in which errors are counted.
        likelihood: the loss that gives each candidate's probability; it is trained on the transcript at the same time.
        """

        type: Literal["mwer"] = "mwer"
        weight: float = Field(default=1.0, gt=0)
        beam: int = Field(default=4, ge=2)
        unit: Unit = "words"
        likelihood: one_of(LIKELIHOODS) = Rnnt.Config()  # type: ignore[valid-type]
        likelihood_scale: float = Field(default=0.01, gt=0)

    nbest: NBest | None = None
    """Set by ``build_losses``."""

    def __init__(self, config: "Mwer.Config", model: Transducer) -> None:
        super().__init__()
        self.config = config
        likelihood: Any = config.likelihood
        self.likelihood: Any = LIKELIHOODS[likelihood.type](likelihood, model)

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        assert self.nbest is not None, "build_losses must be given a search for mwer"
        transcript_B = self.likelihood(encoder_out, targets, model, step).total_B
        nbest = self.nbest(encoder_out, targets, self.config.beam, self.config.unit)
        risk_B, errors_B = expected_errors(*self._log_probs(nbest, encoder_out, model))
        parts = {"errors": errors_B.detach(), "transcript": transcript_B.detach()}
        return LossOut(risk_B + self.config.likelihood_scale * transcript_B, parts)

    def _log_probs(self, nbest: list[list[Candidate]], encoder_out: EncoderOut, model: Transducer) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the candidates (B, K), -inf where there are fewer, and their errors (B, K)."""
        device = encoder_out.lens_B.device
        places = [(row, rank) for row, candidates in enumerate(nbest) for rank in range(len(candidates))]
        utterance_N, rank_N = torch.tensor(places, device=device).unbind(1)
        targets = Targets.from_lists([candidate.tokens for candidates in nbest for candidate in candidates]).to(device)
        repeated = EncoderOut(encoder_out.frames_BSD[utterance_N], encoder_out.lens_B[utterance_N])
        nll_N = self.likelihood.nll(repeated, targets, model)
        log_probs_BK = nll_N.new_full((len(nbest), max(map(len, nbest))), IMPOSSIBLE).index_put((utterance_N, rank_N), -nll_N)
        errors_N = nll_N.new_tensor([candidate.errors for candidates in nbest for candidate in candidates])
        return log_probs_BK, torch.zeros_like(log_probs_BK).index_put((utterance_N, rank_N), errors_N)


def expected_errors(log_probs_BK: Tensor, errors_BK: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) the expectation of errors above their mean, and of errors, under the log-probabilities made to add up to 1.

    A candidate of log-probability -inf does not count; an utterance without any other is +inf.
    """
    exists_BK = log_probs_BK > IMPOSSIBLE
    none_B1 = ~exists_BK.any(dim=1, keepdim=True)
    share_BK = log_probs_BK.masked_fill(none_B1, 0.0).softmax(dim=1)
    mean_B1 = (errors_BK * exists_BK).sum(dim=1, keepdim=True) / exists_BK.sum(dim=1, keepdim=True).clamp(min=1)
    risk_B, expected_B = (share_BK * (errors_BK - mean_B1)).sum(dim=1), (share_BK * errors_BK).sum(dim=1)
    return risk_B.masked_fill(none_B1.squeeze(1), float("inf")), expected_B
