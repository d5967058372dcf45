"""CTC 1-best over a decoding graph (HLG) by k2's pruned intersection. Shape legend: asr/types.py."""
from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from asr import fsa
from asr.decode.ctc_greedy import need_ctc_head
from asr.decode.paths import Path, best_paths, decoding_graph
from asr.decode.search import NOT_FOUND, SearchConfig, Unavailable, need_lang
from asr.decode.words import word_starts
from asr.types import BLANK, EncoderOut, Hypothesis

RETRY = 4
"""Factor of beam and active states with which utterances whose every path was pruned away are searched once more."""


class CtcGraph:
    class Config(SearchConfig):
        """graph: of the language directory. acoustic_scale: of CTC's log-probabilities against the graph's scores.
        search_beam: log-probability below the best state of a frame at which states are dropped. output_beam: the same for
        arcs of the lattice. min_active_states, max_active_states: per frame, over the beam."""

        type: Literal["ctc_graph"] = "ctc_graph"
        graph: str = "HLG"
        acoustic_scale: float = Field(default=1.0, gt=0)
        search_beam: float = Field(default=20.0, gt=0)
        output_beam: float = Field(default=8.0, gt=0)
        min_active_states: int = Field(default=30, ge=0)
        max_active_states: int = Field(default=10000, ge=1)

        def lang_files(self) -> tuple[str, ...]:
            return f"{self.graph}.pt", "words.txt"

    def __init__(self, config: "CtcGraph.Config", model: Any, tokenizer: Any, lang: Any) -> None:
        if not fsa.available():
            raise Unavailable("CTC graph search needs k2, which is not installed here")
        need_ctc_head(model)
        self.k2 = fsa.k2("CTC graph search")
        self.config = config
        self.model = model
        self.tokenizer = tokenizer
        self.words = need_lang(lang, config.graph).words
        self.graph = decoding_graph(self.k2, lang, config.graph, 1.0, next(model.parameters()).device)

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """The best path of each utterance. One whose every path was pruned away is searched once more with a beam ``RETRY``
        times wider; failing that (or without a frame), the result is NOT_FOUND."""
        log_probs_BSV = self.model.ctc_log_probs(encoder_out)
        lens = encoder_out.lens_B.tolist()
        rows = [b for b, length in enumerate(lens) if length > 0]
        paths: list[Path | None] = [None] * len(lens)
        for wider in (1, RETRY):
            rows = [b for b in rows if paths[b] is None]
            for b, path in zip(rows, self._paths(log_probs_BSV, lens, rows, wider)):
                paths[b] = path
        return [[NOT_FOUND if path is None else self._hypothesis(path, log_probs_BSV[b])] for b, path in enumerate(paths)]

    def _paths(self, log_probs_BSV: Tensor, lens: list[int], rows: list[int], wider: int) -> list[Path | None]:
        if not rows:
            return []
        segments = torch.tensor([[b, 0, lens[b]] for b in rows], dtype=torch.int32)
        dense = self.k2.DenseFsaVec(log_probs_BSV * self.config.acoustic_scale, segments)
        lattice = self.k2.intersect_dense_pruned(
            self.graph, dense, search_beam=self.config.search_beam * wider, output_beam=self.config.output_beam,
            min_active_states=self.config.min_active_states, max_active_states=self.config.max_active_states * wider,
        )
        return best_paths(self.k2, lattice)

    def _hypothesis(self, path: Path, log_probs_SV: Tensor) -> Hypothesis:
        """A token's frame is where its run of equal labels starts, its duration the length of the run, and its confidence the highest
        posterior in it."""
        posteriors = log_probs_SV[torch.arange(len(path.labels)), torch.tensor(path.labels)].exp().tolist()
        frames: list[int] = []
        durations: list[int] = []
        confidences: list[float] = []
        previous = BLANK
        for frame, (label, posterior) in enumerate(zip(path.labels, posteriors)):
            if label != BLANK and label == previous:
                durations[-1] += 1
                confidences[-1] = max(confidences[-1], posterior)
            elif label != BLANK:
                frames.append(frame)
                durations.append(1)
                confidences.append(posterior)
            previous = label
        scores = {"model": (path.score - path.graph_score) / self.config.acoustic_scale, "graph": path.graph_score}
        tokens = tuple(path.labels[frame] for frame in frames)
        words = tuple(self.words[i] for i in path.words)
        word_frames = word_starts(self.tokenizer, tokens, frames, path.word_frames)
        return Hypothesis(tokens, path.score, scores, tuple(frames), tuple(confidences), words, word_frames, tuple(durations))
