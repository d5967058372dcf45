"""CTC over a decoding graph (HLG): the best paths, and second passes over all of them. Shape legend: asr/types.py."""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from asr import fsa
from asr.config import Config as BaseConfig
from asr.decode.ctc_greedy import need_ctc_head
from asr.decode.graph import load_graph
from asr.decode.lattice import Lattices, Path, SecondPass
from asr.decode.search import NOT_FOUND, SearchConfig, need_lang
from asr.decode.token_passing import Beams, OnTheFly, pass_tokens
from asr.decode.words import graph_words
from asr.lm import WordNgram, read_arpa
from asr.types import BLANK, EncoderOut, Hypothesis

RETRY = 4
"""Factor of beam and active states with which utterances whose every path was pruned away are searched once more."""


class NgramPass(BaseConfig):
    """``scale`` times the scores of an n-gram of the language directory in place of the graph's, in a second pass over the whole lattice.
    on_the_fly: in the search, too, for graphs of unigrams (lang.graph_order=1) where those of more would be too large.
    """

    arpa: str = "word.arpa"
    scale: float = Field(default=1.0, gt=0)
    on_the_fly: bool = False


class CtcGraph:
    class Config(SearchConfig):
        """graph: of the language directory. acoustic_scale: of CTC's log-probabilities against the graph's scores.
        search_beam: log-probability below the best state of a frame at which states are dropped. output_beam: the same for
        arcs of the lattice. min_active_states, max_active_states: per frame, over the beam.
        nbest: how many results of different words. ngram: a second pass.
        engine: "k2"; "numpy", which needs nothing; "auto" is k2 where it is installed and can. They find the same paths.
        """

        type: Literal["ctc_graph"] = "ctc_graph"
        graph: str = "HLG"
        acoustic_scale: float = Field(default=1.0, gt=0)
        search_beam: float = Field(default=20.0, gt=0)
        output_beam: float = Field(default=8.0, gt=0)
        min_active_states: int = Field(default=30, ge=0)
        max_active_states: int = Field(default=10000, ge=1)
        ngram: NgramPass | None = None
        engine: Literal["auto", "k2", "numpy"] = "auto"

        @model_validator(mode="after")
        def _on_the_fly_without_k2(self) -> "CtcGraph.Config":
            if self.engine == "k2" and self.ngram and self.ngram.on_the_fly:
                raise ValueError("k2 cannot compose on the fly: leave out engine, or set it to numpy")
            return self

        def lang_files(self) -> tuple[str, ...]:
            return (f"{self.graph}.pt", "words.txt", *([self.ngram.arpa] if self.ngram else []))

    def __init__(self, config: "CtcGraph.Config", model: Any, tokenizer: Any, lang: Any) -> None:
        need_ctc_head(model)
        self.config = config
        self.model = model
        self.tokenizer = tokenizer
        self.words = need_lang(lang, config.graph).words
        self.graph = load_graph(lang, config.graph)
        self.second = SecondPass(load_ngram(lang, config.ngram.arpa), config.ngram.scale) if config.ngram else None
        on_the_fly = config.ngram is not None and config.ngram.on_the_fly
        self.on_the_fly = OnTheFly(self.graph, self.second.ngram, self.second.scale) if self.second and on_the_fly else None
        self.one_path = config.nbest == 1 and (on_the_fly or config.ngram is None)
        self.k2: Any = None
        if config.engine == "k2" or (config.engine == "auto" and not on_the_fly and fsa.available()):
            self.k2 = fsa.k2("CTC graph search by engine k2")
            self.k2_graph = self.graph.to_k2(self.k2, next(model.parameters()).device)

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """The best paths of each utterance. One whose every path was pruned away is searched once more with a beam ``RETRY``
        times wider; failing that (or without a frame), the result is NOT_FOUND."""
        log_probs_BSV = self.model.ctc_log_probs(encoder_out)
        lens = encoder_out.lens_B.tolist()
        rows = [b for b, length in enumerate(lens) if length > 0]
        found: list[list[Path]] = [[] for _ in lens]
        for wider in (1, RETRY):
            rows = [b for b in rows if not found[b]]
            if rows:
                lattices = (self._by_numpy if self.k2 is None else self._by_k2)(log_probs_BSV, lens, rows, wider)
                for b, paths in zip(rows, lattices.n_best(self.config.nbest, self.second)):
                    found[b] = paths
        return [[self._hypothesis(path, log_probs_BSV[b]) for path in paths] or [NOT_FOUND] for b, paths in enumerate(found)]

    def _by_k2(self, log_probs_BSV: Tensor, lens: list[int], rows: list[int], wider: int) -> Lattices:
        segments = torch.tensor([[b, 0, lens[b]] for b in rows], dtype=torch.int32)
        dense = self.k2.DenseFsaVec(log_probs_BSV * self.config.acoustic_scale, segments)
        lattice = self.k2.intersect_dense_pruned(
            self.k2_graph, dense, search_beam=self.config.search_beam * wider, output_beam=self.config.output_beam,
            min_active_states=self.config.min_active_states, max_active_states=self.config.max_active_states * wider,
        )
        if self.one_path:
            lattice = self.k2.shortest_path(lattice, use_double_scores=True)
        return Lattices.from_k2(lattice, self.graph)

    def _by_numpy(self, log_probs_BSV: Tensor, lens: list[int], rows: list[int], wider: int) -> Lattices:
        beams = Beams(
            search=self.config.search_beam * wider, output=0.0 if self.one_path else self.config.output_beam,
            min_active=self.config.min_active_states, max_active=self.config.max_active_states * wider,
        )
        scores_BSV = (log_probs_BSV[rows] * self.config.acoustic_scale).double().cpu().numpy()
        return pass_tokens(self.graph, scores_BSV, np.array([lens[b] for b in rows]), beams, self.on_the_fly)

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
        scores = {"model": path.model_score / self.config.acoustic_scale, "graph": path.graph_score}
        if path.ngram_score is not None:
            scores["ngram"] = path.ngram_score
        tokens = tuple(path.labels[frame] for frame in frames)
        words, word_frames = graph_words(self.tokenizer, [self.words[i] for i in path.words], path.word_frames, tokens, frames)
        return Hypothesis(tokens, path.score, scores, tuple(frames), tuple(confidences), words, word_frames, tuple(durations))


def load_ngram(lang: Any, name: str) -> WordNgram:
    """The n-gram over words ``name`` of a language directory, read once for all settings of a search that are tried."""
    path = lang.directory / name
    return _load_ngram(path, path.stat().st_mtime_ns if path.exists() else 0, tuple(lang.words), lang.unknown_log_prob)


@lru_cache(maxsize=2)
def _load_ngram(path: FilePath, modified: int, words: tuple[str, ...], unknown_log_prob: float) -> WordNgram:
    """modified: the file's time, so that a new file is read anew."""
    return WordNgram(read_arpa(path), words, unknown_log_prob)
