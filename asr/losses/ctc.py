"""CTC losses on the encoder's CTC head: Graves et al., "Connectionist temporal classification", ICML 2006."""
from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from asr.config import Config as BaseConfig
from asr.losses.arcs import valid_frames, zero_padding
from asr.losses.ctc_lattice import ctc_log_prob, ctc_topology
from asr.losses.running_average import RunningAverage
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, LossOut, Targets


class CtcConfig(BaseConfig):
    """prior_scale: of the logarithm of each token's average posterior (its prior), which is taken from its log-probability, so that
        blank has no advantage and tokens last longer: Huang et al., "Less peaky and more accurate CTC forced alignment by label
        priors", ICASSP 2024. The loss is then no likelihood, and may be negative.
    prior_decay: of the running average over steps that is the prior; it starts as all equal.
    repeat_penalty, max_repeats: log-probability taken for each frame that repeats the token of the frame before, and how many of these
        there may be in a row: the soft and the hard restriction of Yang et al., "Blank-regularized CTC for frame skipping in neural
        transducer", Interspeech 2023, which turn them into blanks.
    """

    weight: float = Field(default=1.0, gt=0)
    prior_scale: float = Field(default=0.0, ge=0)
    prior_decay: float = Field(default=0.99, gt=0, lt=1)
    repeat_penalty: float = Field(default=0.0, ge=0)
    max_repeats: int | None = Field(default=None, ge=0)


class Ctc(nn.Module):
    """-log P(transcript) under the CTC head."""

    class Config(CtcConfig):
        type: Literal["ctc"] = "ctc"

    def __init__(self, config: CtcConfig, model: Transducer) -> None:
        super().__init__()
        if model.ctc is None:
            raise ValueError("losses: a ctc loss needs a CTC head; add 'ctc: {}' to the model's config")
        self.config = config
        uniform_V = torch.full((model.vocab_size,), 1.0 / model.vocab_size)
        self.prior = RunningAverage(uniform_V, config.prior_decay) if config.prior_scale else None

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        return LossOut(self.alignments(_log_probs(encoder_out, model), encoder_out, targets))

    def alignments(self, log_probs_BSV: Tensor, encoder_out: EncoderOut, targets: Targets) -> Tensor:
        """The loss (B,), of the posteriors that ``encoder_out`` led to."""
        config, frame_lens_B = self.config, encoder_out.lens_B
        if self.prior is None and not config.repeat_penalty and config.max_repeats is None:
            return _plain(log_probs_BSV, frame_lens_B, targets)
        scores_BSV = log_probs_BSV
        if self.prior is not None:
            scores_BSV = log_probs_BSV - config.prior_scale * self.prior.mean_V.clamp(min=torch.finfo(torch.float32).tiny).log()
        topology = ctc_topology(targets, config.repeat_penalty, config.max_repeats, scores_BSV.dtype)
        loss_B = -ctc_log_prob(scores_BSV, frame_lens_B, topology)
        if self.prior is not None and self.training:
            counts_BS = valid_frames(encoder_out) & loss_B.isfinite().unsqueeze(1)
            self.prior.add(log_probs_BSV.detach()[counts_BS].exp())
        return loss_B


class CrCtc(Ctc):
    """Consistency-regularised CTC: Yao et al., "CR-CTC: Consistency regularization on CTC for improved speech recognition", ICLR 2025.

    Beside the alignments of each copy of an utterance (``train.batches.copies: 2``), the Kullback-Leibler divergence of each frame's
    posteriors from those of the other copy, which are a constant there: over the two copies, it is symmetric. An utterance of
    which there is only one copy, as in validation, has none.
    """

    class Config(CtcConfig):
        """consistency: weight of the divergence."""

        type: Literal["cr_ctc"] = "cr_ctc"
        consistency: float = Field(default=0.2, gt=0)

    config: Config

    def forward(self, encoder_out: EncoderOut, targets: Targets, model: Transducer, step: int) -> LossOut:
        log_probs_BSV = _log_probs(encoder_out, model)
        alignments_B = self.alignments(log_probs_BSV, encoder_out, targets)
        others_BSV = log_probs_BSV.detach().roll(len(log_probs_BSV) // encoder_out.copies, dims=0)
        divergence_BS = F.kl_div(log_probs_BSV, others_BSV, reduction="none", log_target=True).sum(dim=2)
        divergence_B = (divergence_BS * valid_frames(encoder_out)).sum(dim=1)
        parts = {"alignments": alignments_B.detach(), "consistency": divergence_B.detach()}
        return LossOut(alignments_B + self.config.consistency * divergence_B, parts)


def _log_probs(encoder_out: EncoderOut, model: Transducer) -> Tensor:
    return model.ctc_log_probs(EncoderOut(zero_padding(encoder_out), encoder_out.lens_B))


def _plain(log_probs_BSV: Tensor, frame_lens_B: Tensor, targets: Targets) -> Tensor:
    """The usual CTC, by torch, which is fast but knows no other topology and no scores that are not normalised."""
    # zero_infinity keeps NaN out of the gradients of utterances without an alignment; their loss is infinite all the same.
    nll_B = F.ctc_loss(
        log_probs_BSV.transpose(0, 1), targets.tokens_BU, frame_lens_B, targets.lens_B,
        blank=BLANK, reduction="none", zero_infinity=True,
    )
    impossible_B = frame_lens_B < frames_needed(targets)
    return torch.where(impossible_B, nll_B.new_full((), float("inf")), nll_B)


def frames_needed(targets: Targets) -> Tensor:
    """(B,) the fewest frames that can spell each transcript: one per token, and a blank between two that are equal."""
    tokens_BU = targets.tokens_BU
    inside_BU = torch.arange(tokens_BU.shape[1], device=tokens_BU.device)[1:] < targets.lens_B.unsqueeze(1)
    return targets.lens_B + ((tokens_BU[:, 1:] == tokens_BU[:, :-1]) & inside_BU).sum(dim=1)
