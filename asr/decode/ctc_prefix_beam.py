"""CTC prefix beam search with any set of scorers, all utterances and prefixes of the beam at once.

Graves, "Sequence transduction with recurrent neural networks", 2012, section 2.5 (the search), and Hannun et al., "First-pass large
vocabulary continuous speech recognition using bi-directional recurrent DNNs", 2014, algorithm 1 (for CTC): a prefix has the
probability of all its alignments, those that end in a blank kept apart from those that end in its last token.
Shape legend: asr/types.py; K is the beam, N = B * K.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from asr.decode.ctc_greedy import need_ctc_head
from asr.decode.history import Emission, History, Step
from asr.decode.modified_beam import START_OF_HASH, extend_hashes
from asr.decode.scorers import Fusion, FusionState, ScorerConfig
from asr.decode.search import BlankPenaltyConfig, blank_penalised
from asr.types import BLANK, EncoderOut, Hypothesis


@dataclass
class Beam:
    """K prefixes of each utterance.

    blank_BK, token_BK: log-probabilities, scorers included, of their alignments that end in a blank, and in their last token last_BK
    (BLANK for the empty prefix and for a dead slot). hashes_BK: of prefixes, see ``extend_hashes``; parent_hashes_BK: of prefixes
    without their last token. frame_BK: where most of a prefix's probability came in by its last token; peak_BK: the highest
    log-posterior of that token from there on. fusion: state of the scorers, None without any.
    """

    blank_BK: Tensor
    token_BK: Tensor
    last_BK: Tensor
    hashes_BK: Tensor
    parent_hashes_BK: Tensor
    frame_BK: Tensor
    peak_BK: Tensor
    fusion: FusionState | None


@dataclass
class StreamState:
    """Between two pieces of the utterances. frames_B: so far. offset_B: float64, to be added to the scores of the beam.
    history: what prefixes have emitted but for their last tokens."""

    beam: Beam
    frames_B: Tensor
    offset_B: Tensor
    history: History


class CtcPrefixBeam:
    class Config(BlankPenaltyConfig):
        """beam: prefixes per utterance. scorers: added to the model's log-probability, each by its scale."""

        type: Literal["ctc_prefix_beam"] = "ctc_prefix_beam"
        beam: int = Field(default=8, ge=1)
        scorers: dict[str, ScorerConfig] = {}  # type: ignore[valid-type]

        def lang_files(self) -> tuple[str, ...]:
            return tuple(file for scorer in self.scorers.values() for file in scorer.lang_files())

    def __init__(self, config: "CtcPrefixBeam.Config", model: Any, tokenizer: Any, lang: Any = None) -> None:
        need_ctc_head(model)
        self.config = config
        self.model = model
        self.fusion = Fusion(config.scorers, tokenizer, lang, model)

    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """The most probable first. A token's confidence is its highest posterior from its frame to that of the next."""
        return self.finish(self.advance(encoder_out, self.start(len(encoder_out.lens_B))))

    def start(self, streams: int) -> StreamState:
        k, device = self.config.beam, next(self.model.parameters()).device
        dead_BK = torch.full((streams, k), -math.inf, device=device)
        blank_BK = dead_BK.clone()
        blank_BK[:, 0] = 0.0
        none_BK = torch.zeros(streams, k, dtype=torch.int64, device=device)
        fusion = self.fusion.start(streams * k, device) if self.fusion else None
        beam = Beam(blank_BK, dead_BK, none_BK + BLANK, none_BK + START_OF_HASH, none_BK, none_BK, dead_BK, fusion)
        return StreamState(beam, none_BK[:, 0], none_BK[:, 0].double(), History(streams, k))

    @torch.no_grad()
    def advance(self, encoder_out: EncoderOut, state: StreamState) -> StreamState:
        frames = encoder_out.frames_BSD.shape[1]
        if not frames:
            return state
        posteriors_BSV = self.model.ctc_log_probs(encoder_out)
        penalty = self.config.blank_penalty
        log_probs_BSV = blank_penalised(posteriors_BSV.clone(), penalty) if penalty else posteriors_BSV
        beam, steps, shortest = state.beam, [], int(encoder_out.lens_B.min())
        for s in range(frames):
            inside_B1 = None if s < shortest else (s < encoder_out.lens_B).unsqueeze(1)
            frame_B1 = (state.frames_B + s).unsqueeze(1)
            beam, step = self._step(beam, log_probs_BSV[:, s], posteriors_BSV[:, s], frame_B1, inside_B1)
            steps.append(step)
        state.history.extend(steps, torch.zeros_like(state.frames_B))
        best_B1 = torch.logaddexp(beam.blank_BK, beam.token_BK).max(1, keepdim=True).values
        beam = replace(beam, blank_BK=beam.blank_BK - best_B1, token_BK=beam.token_BK - best_B1)
        return StreamState(beam, state.frames_B + encoder_out.lens_B, state.offset_B + best_B1.squeeze(1), state.history)

    def finish(self, state: StreamState) -> list[list[Hypothesis]]:
        return self._read(state, final=True)

    def hypotheses(self, state: StreamState) -> list[list[Hypothesis]]:
        return self._read(state, final=False)

    def _step(
        self, beam: Beam, log_probs_BV: Tensor, posteriors_BV: Tensor, frame_B1: Tensor, inside_B1: Tensor | None
    ) -> tuple[Beam, Step]:
        """One frame. Utterances that are not ``inside_B1`` (None: all are) stay as they are. The fusion state is changed in place."""
        count, k = beam.last_BK.shape
        vocab_size = log_probs_BV.shape[1]
        same, incoming_BK, longer_BKV = self._grown(beam, log_probs_BV)
        scores_BK, choice_BK = torch.cat([torch.logaddexp(same.blank_BK, same.token_BK), longer_BKV.flatten(1)], dim=1).topk(k)
        if inside_B1 is not None:
            choice_BK = torch.where(inside_B1, choice_BK, torch.arange(k, device=choice_BK.device))
        alive_BK = scores_BK > -math.inf
        grown_BK = (choice_BK >= k) & alive_BK
        longer_BK = (choice_BK - k).clamp(min=0)
        parents_BK = torch.where(choice_BK < k, choice_BK, torch.div(longer_BK, vocab_size, rounding_mode="floor"))
        tokens_BK = (longer_BK % vocab_size).masked_fill(~grown_BK, BLANK)

        posterior_BK = posteriors_BV.gather(1, beam.last_BK)
        came_in_BK = incoming_BK > torch.logaddexp(same.blank_BK, beam.token_BK + log_probs_BV.gather(1, beam.last_BK))
        same.frame_BK = torch.where(came_in_BK, frame_B1, beam.frame_BK)
        same.peak_BK = torch.where(came_in_BK, posterior_BK, torch.maximum(beam.peak_BK, posterior_BK))
        emitted_BK = beam.last_BK.gather(1, parents_BK).masked_fill(~grown_BK, BLANK)
        step = Step(
            torch.arange(count, device=parents_BK.device), parents_BK, emitted_BK, beam.frame_BK.gather(1, parents_BK),
            beam.peak_BK.gather(1, parents_BK).exp(),
        )
        hashes_BK = beam.hashes_BK.gather(1, parents_BK)
        following = {
            "blank_BK": same.blank_BK.gather(1, parents_BK).masked_fill(grown_BK | ~alive_BK, -math.inf),
            "token_BK": torch.where(grown_BK | ~alive_BK, scores_BK, same.token_BK.gather(1, parents_BK)),
            "last_BK": torch.where(grown_BK, tokens_BK, beam.last_BK.gather(1, parents_BK)).masked_fill(~alive_BK, BLANK),
            "hashes_BK": extend_hashes(hashes_BK, tokens_BK),
            "parent_hashes_BK": torch.where(grown_BK, hashes_BK, beam.parent_hashes_BK.gather(1, parents_BK)),
            "frame_BK": torch.where(grown_BK, frame_B1, same.frame_BK.gather(1, parents_BK)),
            "peak_BK": torch.where(grown_BK, posteriors_BV.gather(1, tokens_BK), same.peak_BK.gather(1, parents_BK)),
        }
        if inside_B1 is not None:
            following = {name: torch.where(inside_B1, new_BK, getattr(beam, name)) for name, new_BK in following.items()}
        if beam.fusion is not None:
            self.fusion.extend(beam.fusion, parents_BK, tokens_BK)
        return Beam(**following, fusion=beam.fusion), step

    @staticmethod
    def _grown(beam: Beam, log_probs_BV: Tensor) -> tuple[Beam, Tensor, Tensor]:
        """After a frame: the prefixes as they are, what of their log-probability comes from others of the beam that became them
        (B, K), and the scores of all longer ones (B, K, V) but for those."""
        k = beam.last_BK.shape[1]
        total_BK = torch.logaddexp(beam.blank_BK, beam.token_BK)
        repeated_BK = log_probs_BV.gather(1, beam.last_BK)
        longer_BKV = total_BK.unsqueeze(2) + log_probs_BV.unsqueeze(1)
        longer_BKV.scatter_(2, beam.last_BK.unsqueeze(2), (beam.blank_BK + repeated_BK).unsqueeze(2))  # the same again, after a blank
        longer_BKV[:, :, BLANK] = -math.inf
        if beam.fusion is not None:
            longer_BKV += beam.fusion.fused_NV.view(longer_BKV.shape)
        last_BKK = beam.last_BK.unsqueeze(1).expand(-1, k, -1)
        becomes_BKK = beam.hashes_BK.unsqueeze(2) == beam.parent_hashes_BK.unsqueeze(1)
        incoming_BK = longer_BKV.gather(2, last_BKK).masked_fill(~becomes_BKK, -math.inf).max(1).values
        longer_BKV.scatter_add_(2, last_BKK, total_BK.new_zeros(becomes_BKK.shape).masked_fill(becomes_BKK, -math.inf))
        token_BK = torch.logaddexp(beam.token_BK + repeated_BK, incoming_BK)
        return replace(beam, blank_BK=total_BK + log_probs_BV[:, BLANK].unsqueeze(1), token_BK=token_BK), incoming_BK, longer_BKV

    def _read(self, state: StreamState, final: bool) -> list[list[Hypothesis]]:
        beam = state.beam
        scores_BK = torch.logaddexp(beam.blank_BK, beam.token_BK).double() + state.offset_B.unsqueeze(1)
        last, frame, peak = beam.last_BK.tolist(), beam.frame_BK.tolist(), beam.peak_BK.exp().tolist()

        def emissions(b: int, slot: int) -> list[Emission]:
            found = state.history.of(b, slot)
            return found if last[b][slot] == BLANK else [*found, Emission(last[b][slot], frame[b][slot], 0, peak[b][slot])]

        return self.fusion.nbest(scores_BK, beam.fusion, emissions, final, rank=lambda score, tokens: score)
