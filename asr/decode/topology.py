"""How far tokens move a hypothesis through the frames: all that a search has to know to tell an RNN-T from a TDT.

A hypothesis stands at a *place*, ``frame * symbols + tokens it has emitted at this frame``, with at most ``symbols`` tokens per
frame. A token of duration 0 moves it to the next place, which after the last of a frame is the next frame; any other duration, to
the first place of a later frame. An RNN-T is the case of a single duration, 0; a TDT's are learnt (Xu et al., "Efficient sequence
transduction by jointly predicting tokens and durations", ICML 2023). Shape legend: asr/types.py; L is the number of durations.
"""
from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from asr.decode.search import TransducerSearchConfig, blank_penalised

SYMBOLS = 10
"""Tokens per frame of a TDT where the config does not say: it knows by itself when to move on, so this only ends a runaway."""


class TopologyConfig(TransducerSearchConfig):
    """max_symbols_per_frame: tokens after which the search moves on to the next frame even without a blank; null for 1, or for 10
    where the model has learnt durations."""

    max_symbols_per_frame: int | None = Field(default=None, ge=1)


class Topology:
    """What moves how far in a model.

    durations_L: frames that a token or blank may last, int64. Blank of duration 0 counts as 1, as in the searches of the TDT paper:
    training forbids it, but the model, which normalises durations apart from tokens, cannot.
    symbols: tokens per frame at most. learnt: whether the model tells durations.
    reach: frames that one move may go, at most. jumps: whether frames may be left out.
    lockstep: whether every token and every blank moves by one frame, so that all hypotheses are always at the same one.
    """

    def __init__(self, model: Any, config: TopologyConfig) -> None:
        self.joiner = model.joiner
        self.learnt = bool(model.joiner.durations)
        durations: tuple[int, ...] = model.joiner.durations or (0,)
        self.durations_L = torch.tensor(durations, device=next(model.parameters()).device)
        self.symbols = 1
        if 0 in durations:
            self.symbols = config.max_symbols_per_frame or (SYMBOLS if self.learnt else 1)
        self.reach = max(*durations, 1)
        self.jumps = self.reach > 1
        self.lockstep = not self.jumps and self.symbols == 1
        self.blank_penalty = config.blank_penalty
        self.offsets_Z2L, self.landing_Z2LL = self._landings()

    def _landings(self) -> tuple[Tensor, Tensor]:
        """Of a blank and of any token: the places that each duration moves on by, and which durations land where others do.

        Z counts tokens emitted at the frame so far, and for each number of them, frames that are left, up to those that matter.
        The second is 0 where a duration (the last L) lands at the place of another (the L before), of which it is the first, else -inf.
        """
        device, left = self.durations_L.device, self.reach + 1
        emitted_Z11 = torch.arange(self.symbols, device=device).repeat_interleave(left).view(-1, 1, 1)
        left_Z11 = torch.arange(left, device=device).repeat(self.symbols).view(-1, 1, 1)
        is_token_21 = torch.arange(2, device=device).bool().unsqueeze(1)
        offsets_Z2L = self.move(emitted_Z11, self.durations_L, is_token_21, left_Z11) - emitted_Z11
        same_Z2LL = offsets_Z2L.unsqueeze(-1) == offsets_Z2L.unsqueeze(-2)
        first_Z2L1 = ~same_Z2LL.tril(-1).any(-1, keepdim=True)
        return offsets_Z2L, torch.zeros(same_Z2LL.shape, device=device).masked_fill(~(same_Z2LL & first_Z2L1), -math.inf)

    def landings(self, places_B: Tensor, lens_B: Tensor, durations_ML: Tensor, utterance_M: Tensor) -> tuple[Tensor, Tensor]:
        """Where moves lead, (B, 2, L), by a blank and by any token of each duration, and log-probabilities of durations (M, 2, L): those
        that lead to the same place are log-added into the first of them, the others being -inf.

        places_B: before the ends lens_B. durations_ML: log-probabilities of hypotheses of the utterances ``utterance_M``.
        """
        left_B = (lens_B - self.frames(places_B)).clamp(max=self.reach)
        z_B = left_B if self.symbols == 1 else places_B % self.symbols * (self.reach + 1) + left_B
        lasting_M2LL = self.landing_Z2LL[z_B.index_select(0, utterance_M)] + durations_ML.view(-1, 1, 1, len(self.durations_L))
        return places_B.view(-1, 1, 1) + self.offsets_Z2L[z_B], lasting_M2LL.logsumexp(-1)

    def log_probs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of tokens (..., V), after the blank penalty, and of durations (..., L). ``logits`` is given up."""
        tokens, durations = self.joiner.split(logits)
        if not self.learnt:
            return blank_penalised(tokens, self.blank_penalty), torch.zeros_like(tokens[..., :1], dtype=torch.float32)
        return blank_penalised(tokens, self.blank_penalty), durations.float().log_softmax(-1)

    def unpenalised(self, log_probs: Tensor, blanks: Tensor) -> Tensor:
        """Probabilities of tokens before the blank penalty, of log-probabilities after it, of these tokens and of blank."""
        if not self.blank_penalty:
            return log_probs.exp()
        return log_probs.exp() / (1.0 + blanks.exp() * math.expm1(self.blank_penalty))

    def frames(self, places: Tensor) -> Tensor:
        return places if self.symbols == 1 else torch.div(places, self.symbols, rounding_mode="floor")

    def first_places(self, frames: Tensor) -> Tensor:
        return frames * self.symbols

    def move(self, places: Tensor, durations: Tensor, is_token: Tensor | bool, lens: Tensor) -> Tensor:
        """Places after a token or blank of a duration each, in frames; the end of the utterance (its length) cuts durations off.

        All are int64 or bool and broadcast against each other.
        """
        stays = (durations == 0) & is_token
        moved = torch.where(stays, places + 1, self.first_places(self.frames(places) + durations.clamp(min=1)))
        return torch.minimum(moved, self.first_places(lens))
