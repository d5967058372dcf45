"""Log-probabilities of a transducer's arcs, computed from the joiner in a window of tokens around each frame.

Shape legend: asr/types.py; W is U + 1 or the width R of the windows, J the joiner's dimension, L the number of durations (0 but for
token-and-duration transducers); N counts the frames of all utterances, so that no arithmetic is spent on padding.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from asr.models.joiner import Joiner
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, Targets

LOGITS_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}
"""How many logits may exist at a time where they are computed twice, by device: what fits a CPU's cache, and what occupies a GPU."""


class Arcs(NamedTuple):
    """Log-probabilities of blank and of the next token at each node, and of durations, of the rows inside the windows; zero in padding."""

    blank_BSW: Tensor
    label_BSW: Tensor
    duration_LBSW: Tensor


def need_durations(model: Transducer, loss: str, wanted: bool) -> None:
    """Raises ValueError where the model has durations and the loss wants none, or the reverse."""
    if wanted and not model.durations:
        raise ValueError(f"losses: {loss} is for models with durations; set model.joiner.durations, for example to [0, 1, 2, 3, 4]")
    if model.durations and not wanted:
        raise ValueError(f"losses: {loss} is for models without durations; choose tdt or pruned_tdt, or set model.joiner.durations to []")


def valid_frames(encoder_out: EncoderOut) -> Tensor:
    """(B, S) bool: which frames are not padding."""
    frames = encoder_out.frames_BSD.shape[1]
    return torch.arange(frames, device=encoder_out.lens_B.device) < encoder_out.lens_B.unsqueeze(1)


def zero_padding(encoder_out: EncoderOut) -> Tensor:
    """The frames (B, S, D) with zeros as padding, so that whatever was there reaches neither value nor gradient."""
    return encoder_out.frames_BSD.masked_fill(~valid_frames(encoder_out).unsqueeze(2), 0.0)


def next_tokens(targets: Targets) -> Tensor:
    """(B, W): the token that a label arc at each row emits; blank in the last row, which has none."""
    return F.pad(targets.tokens_BU, (0, 1), value=BLANK)


def delay_penalised(label_BSW: Tensor, frame_lens_B: Tensor, penalty: float) -> Tensor:
    """Labels made more probable before the middle of the utterance, and less behind it, by ``penalty`` per frame.

    Kang et al., "Delay-penalized transducer for low-latency streaming ASR", ICASSP 2023.
    """
    if penalty == 0.0:
        return label_BSW
    frame_S = torch.arange(label_BSW.shape[1], device=label_BSW.device)
    return label_BSW + penalty * ((frame_lens_B.unsqueeze(1) - 1) / 2 - frame_S).unsqueeze(2)


def all_arcs(model: Transducer, encoder_out: EncoderOut, targets: Targets) -> Arcs:
    """Arcs of every node. Where there are many, their logits are computed piece by piece, and once more for the gradient."""
    predictor_BWD = model.predictor(targets.tokens_BU)
    first_BS = torch.zeros(encoder_out.frames_BSD.shape[:2], dtype=torch.int64, device=targets.tokens_BU.device)
    return window_arcs(model.joiner, encoder_out, predictor_BWD, targets, first_BS, width=predictor_BWD.shape[1], recompute=True)


def window_arcs(
    joiner: Joiner, encoder_out: EncoderOut, predictor_BWD: Tensor, targets: Targets, first_BS: Tensor, width: int,
    recompute: bool = False,
) -> Arcs:
    """Arcs of the nodes (s, u) with first_BS[b, s] <= u < first_BS[b, s] + width.

    first_BS: int64 in 0 ... W - width.
    recompute: keep no more than ``LOGITS_AT_ONCE``, and compute them again for the gradient.
    """
    batch, frames = first_BS.shape
    rows = predictor_BWD.shape[1]
    valid_BS = valid_frames(encoder_out)
    utterance_N1, frame_N1 = (index.unsqueeze(1) for index in valid_BS.nonzero(as_tuple=True))
    row_NR = first_BS[valid_BS].unsqueeze(1) + torch.arange(width, device=first_BS.device)

    encoder_NJ = joiner.project_encoder(encoder_out.frames_BSD[valid_BS])
    predictor_MJ = joiner.project_predictor(predictor_BWD).flatten(0, 1)
    inputs = encoder_NJ, utterance_N1 * rows + row_NR, next_tokens(targets)[utterance_N1, row_NR]
    piece = max(1, LOGITS_AT_ONCE.get(first_BS.device.type, 1 << 26) // (width * joiner.output_linear.out_features))
    if recompute and piece < len(encoder_NJ):
        pieces = zip(*(part.split(piece) for part in inputs))
        parts = [checkpoint(_node_arcs, joiner, predictor_MJ, *part, use_reentrant=False) for part in pieces]
        blank_NR, label_NR, duration_NRL = (torch.cat(part) for part in zip(*parts))
    else:
        blank_NR, label_NR, duration_NRL = _node_arcs(joiner, predictor_MJ, *inputs)

    def unpack(x_NR: Tensor) -> Tensor:
        return x_NR.new_zeros(batch, frames, *x_NR.shape[1:]).index_put((utterance_N1.squeeze(1), frame_N1.squeeze(1)), x_NR)

    return Arcs(unpack(blank_NR), unpack(label_NR), unpack(duration_NRL).permute(3, 0, 1, 2))


def _node_arcs(
    joiner: Joiner, predictor_MJ: Tensor, encoder_NJ: Tensor, predictor_row_NR: Tensor, label_NR: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of blank and label (N, R), and of durations (N, R, L)."""
    # An embedding look-up is the gather whose backward is fast on a CPU.
    predictor_NRJ = F.embedding(predictor_row_NR, predictor_MJ)
    logits = joiner(encoder_NJ.unsqueeze(1), predictor_NRJ)
    return _ArcLogProbs.apply(logits, label_NR, len(joiner.durations))


class _ArcLogProbs(torch.autograd.Function):
    """Log-softmax of the logits of tokens, at blank and at one label, and of those of durations, which stand behind them.

    It never stores the other V - 2 tokens, and its backward fills one tensor only.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, durations: int) -> Any:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        tokens, durations_log_probs = wide[..., : wide.shape[-1] - durations], wide[..., wide.shape[-1] - durations :].log_softmax(-1)
        normalizer = tokens.logsumexp(dim=-1)
        ctx.save_for_backward(logits, normalizer, labels, durations_log_probs)
        label = tokens.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - normalizer
        return tokens[..., BLANK] - normalizer, label, durations_log_probs

    @staticmethod
    def backward(ctx: Any, blank_grad: Tensor, label_grad: Tensor, duration_grad: Tensor) -> Any:  # type: ignore[override]
        logits, normalizer, labels, durations_log_probs = ctx.saved_tensors
        grad = (logits - normalizer.unsqueeze(-1)).exp_().mul_(-(blank_grad + label_grad).unsqueeze(-1))
        grad[..., BLANK] += blank_grad
        grad.scatter_add_(-1, labels.unsqueeze(-1), label_grad.unsqueeze(-1))
        if durations := duration_grad.shape[-1]:
            grad[..., -durations:] = duration_grad - durations_log_probs.exp() * duration_grad.sum(-1, keepdim=True)
        return grad.to(logits.dtype), None, None
