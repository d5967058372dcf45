"""The linear joiner that finds where the alignments of an utterance run, so that the real one need not look elsewhere.

Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", Interspeech 2022. The logits are the sum of one part from
the encoder ("am") and one from the predictor ("lm"), so that normalising them is a matrix product (section 3.1) and nothing of
size B x S x U x V ever exists. Shape legend: asr/types.py; W is U + 1, L the number of durations.
"""
from __future__ import annotations

import torch
from torch import Tensor

from asr.types import BLANK


def smoothed_arcs(
    am_BSV: Tensor, lm_BWV: Tensor, labels_BW: Tensor, valid_BW: Tensor, am_scale: float, lm_scale: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, S, W) of blank and label by the simple joiner, interpolated with those of each of its parts alone.

    log p = (1 - am_scale - lm_scale) log p_simple + am_scale log p_am + lm_scale log p_lm (section 3.1, "smoothing"), where p_am
    sees, in place of the predictor, the average of all its distributions in the batch (those of padding excepted).

    labels_BW: int64, the token that a label arc at each row emits.
    """
    (am_exp_BSV, am_max_BS1), (lm_exp_BWV, lm_max_BW1) = _scaled_exp(am_BSV), _scaled_exp(lm_BWV)
    simple = _Part(
        blank=am_BSV[:, :, BLANK, None] + lm_BWV[:, None, :, BLANK],
        label=_at_labels(am_BSV, labels_BW) + lm_BWV.gather(2, labels_BW.unsqueeze(2)).transpose(1, 2),
        normalizer=_safe_log(am_exp_BSV @ lm_exp_BWV.transpose(1, 2)) + am_max_BS1 + lm_max_BW1.transpose(1, 2),
    )
    blank_BSW, label_BSW = simple.scaled(1.0 - am_scale - lm_scale)
    lm_sum_BW1 = lm_exp_BWV.sum(dim=2, keepdim=True)
    if lm_scale > 0.0:
        lm_only = _Part(
            blank=lm_BWV[:, None, :, BLANK],
            label=lm_BWV.gather(2, labels_BW.unsqueeze(2)).transpose(1, 2),
            normalizer=(lm_sum_BW1.log() + lm_max_BW1).transpose(1, 2),
        )
        blank_BSW, label_BSW = (total + part for total, part in zip((blank_BSW, label_BSW), lm_only.scaled(lm_scale)))
    if am_scale > 0.0:
        unigram_V = (lm_exp_BWV / lm_sum_BW1)[valid_BW].mean(dim=0) + torch.finfo(lm_BWV.dtype).tiny
        am_only = _Part(
            blank=am_BSV[:, :, BLANK, None] + unigram_V[BLANK].log(),
            label=_at_labels(am_BSV, labels_BW) + unigram_V.log()[labels_BW].unsqueeze(1),
            normalizer=(am_exp_BSV @ unigram_V).log().unsqueeze(2) + am_max_BS1,
        )
        blank_BSW, label_BSW = (total + part for total, part in zip((blank_BSW, label_BSW), am_only.scaled(am_scale)))
    return blank_BSW, label_BSW


def smoothed_durations(am_BSL: Tensor, lm_BWL: Tensor, valid_BW: Tensor, am_scale: float, lm_scale: float) -> Tensor:
    """Log-probabilities (L, B, S, W) of durations, interpolated as those of tokens are in :func:`smoothed_arcs`."""
    (am_exp_BSL, am_max_BS1), (lm_exp_BWL, lm_max_BW1) = _scaled_exp(am_BSL), _scaled_exp(lm_BWL)
    normalizer_BSW = _safe_log(am_exp_BSL @ lm_exp_BWL.transpose(1, 2)) + am_max_BS1 + lm_max_BW1.transpose(1, 2)
    # All but the normaliser is the sum of a part of the frame's and one of the row's.
    simple_scale = 1.0 - am_scale - lm_scale
    frame_BSL, row_BWL = simple_scale * am_BSL, simple_scale * lm_BWL + lm_scale * lm_BWL.log_softmax(dim=2)
    if am_scale > 0.0:
        average_L = lm_BWL.softmax(dim=2)[valid_BW].mean(dim=0).log()
        frame_BSL = frame_BSL + am_scale * (am_BSL + average_L).log_softmax(dim=2)
    normalizer_BS1W = (simple_scale * normalizer_BSW).unsqueeze(2)
    return (frame_BSL.unsqueeze(3) + row_BWL.transpose(1, 2).unsqueeze(1) - normalizer_BS1W).permute(2, 0, 1, 3)


class _Part:
    """Unnormalised logits of blank and label, and the logarithm of what they must be divided by, broadcast to (B, S, W)."""

    def __init__(self, blank: Tensor, label: Tensor, normalizer: Tensor) -> None:
        self.blank, self.label, self.normalizer = blank, label, normalizer

    def scaled(self, scale: float) -> tuple[Tensor, Tensor]:
        return (self.blank - self.normalizer) * scale, (self.label - self.normalizer) * scale


def _scaled_exp(x: Tensor) -> tuple[Tensor, Tensor]:
    """exp(x - max) and the maximum over the last dimension."""
    max_ = x.detach().amax(dim=2, keepdim=True)
    return (x - max_).exp(), max_


def _at_labels(am_BSV: Tensor, labels_BW: Tensor) -> Tensor:
    return am_BSV.gather(2, labels_BW.unsqueeze(1).expand(-1, am_BSV.shape[1], -1))


def _safe_log(x: Tensor) -> Tensor:
    return (x + torch.finfo(x.dtype).tiny).log()


def pruning_window(
    blank_posterior_BSW: Tensor, label_posterior_BSW: Tensor, frame_lens_B: Tensor, token_lens_B: Tensor, width: int, step: int
) -> Tensor:
    """First row (B, S) of the ``width`` rows of each frame that keep the most probability (section 3.2).

    A window keeps the blanks inside it, less the label that enters it from below, for that path is cut. The first window starts
    at row 0, the last ends with the transcript, they never move down, and at most ``step`` up from one frame to the next: width - 1
    in the regular topology, in which an alignment crosses a frame in one window; 1 in the modified one.
    """
    frames, rows = blank_posterior_BSW.shape[1:]
    kept = blank_posterior_BSW.unfold(2, width, 1).sum(dim=3)
    kept[:, :, 1:] -= label_posterior_BSW[:, :, : rows - width]
    frame_S = torch.arange(frames, device=kept.device)
    last_B1 = (token_lens_B - width + 1).clamp(min=0).unsqueeze(1)
    first_BS = torch.where(frame_S < frame_lens_B.unsqueeze(1) - 1, kept.argmax(dim=2), last_B1)
    first_BS = _reverse_cummin(first_BS)
    slack_BS = _reverse_cummin(step * frame_S - first_BS).clamp(min=0)
    return step * frame_S - slack_BS


def reached_rows(label_posterior_BSW: Tensor) -> Tensor:
    """The probability (B, S, W) that an alignment has emitted u tokens when it leaves frame s, or jumps over it.

    Each token is emitted once, so the sum of its posteriors up to a frame is the probability that it is behind. In the regular
    topology of RNN-T this is the posterior of blank, and may stand for it in :func:`pruning_window`.
    """
    behind_BSW = label_posterior_BSW.cumsum(dim=1)
    reached_BSW = -behind_BSW
    reached_BSW[:, :, 0] += 1.0
    reached_BSW[:, :, 1:] += behind_BSW[:, :, :-1]
    return reached_BSW


def _reverse_cummin(x_BS: Tensor) -> Tensor:
    """min over this and all later frames."""
    return x_BS.flip(1).cummin(dim=1).values.flip(1)
