"""Fast beam search of a stateless transducer over a graph, by k2: Kang et al., "Fast and parallel decoding for transducer",
ICASSP 2023, section 4. Without a lexicon the graph accepts every token sequence; over LG the result is words.
Shape legend: asr/types.py; N counts (utterance, context) pairs, C the predictor's context, J the joiner's dimension.
"""
from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from asr import fsa
from asr.decode.graph import GRAPH_ARC, DecodingGraph, load_graph
from asr.decode.lattice import Lattices, Path
from asr.decode.search import NOT_FOUND, TransducerSearchConfig, Unavailable, blank_penalised, need_lang, posteriors
from asr.decode.stepping import StatelessTables
from asr.decode.words import graph_words
from asr.lang import Fst
from asr.lang.fst import FINAL
from asr.models.predictors import NOTHING, StatelessPredictor
from asr.types import BLANK, EncoderOut, Hypothesis

RETRY = 4
"""Factor of beam, contexts and states with which utterances whose every path was pruned away are searched once more."""


class FastBeam:
    class Config(TransducerSearchConfig):
        """graph: "trivial" (any tokens) or a graph of the language directory such as "LG", whose scores are multiplied by
        graph_scale. beam: log-probability below the best state of a frame at which states are dropped.
        max_contexts, max_states: limits per frame and utterance. nbest: how many results of different words, over a graph that has some.
        published_form: the search as icefall's recipes run it, to reproduce their results: contexts of first tokens padded with
        blanks, where training pads with nothing, and neither the last frame nor the graph's final scores counted."""

        type: Literal["fast_beam"] = "fast_beam"
        graph: str = "trivial"
        graph_scale: float = Field(default=1.0, ge=0)
        beam: float = Field(default=20.0, gt=0)
        max_contexts: int = Field(default=8, ge=1)
        max_states: int = Field(default=64, ge=1)
        published_form: bool = False

        def lang_files(self) -> tuple[str, ...]:
            return () if self.graph == "trivial" else (f"{self.graph}.pt", "words.txt")

    def __init__(self, config: "FastBeam.Config", model: Any, tokenizer: Any, lang: Any = None) -> None:
        if model.joiner.durations:
            raise Unavailable("fast beam search knows no durations: search this token-and-duration model by greedy or modified_beam")
        if not fsa.available():
            raise Unavailable("fast beam search needs k2, which is not installed here")
        if not isinstance(model.predictor, StatelessPredictor):
            raise Unavailable("fast beam search needs a stateless predictor: it merges hypotheses with equal contexts")
        self.k2 = fsa.k2("fast beam search")
        self.config = config
        self.model = model
        self.predictor = StatelessTables(model.predictor)
        self.tokenizer = tokenizer
        self.words: list[str] | None = None
        if config.graph == "trivial":
            loops = [(0, 0, token, 0) for token in range(BLANK + 1, model.vocab_size)]
            self.graph = DecodingGraph(Fst.from_arcs([*loops, (0, 1, FINAL, FINAL)], torch.zeros(len(loops) + 1)))
        else:
            self.words = need_lang(lang, config.graph).words
            self.graph = load_graph(lang, config.graph, config.graph_scale)
        self.k2_graph = self.graph.to_k2(self.k2, next(model.parameters()).device)

    @torch.no_grad()
    def decode(self, encoder_out: EncoderOut) -> list[list[Hypothesis]]:
        """The best path of each utterance. One whose paths all end outside a final state (or were pruned away) is searched
        again with a beam ``RETRY`` times wider and may then end anywhere; failing that, the result is NOT_FOUND."""
        found = self._paths(encoder_out, wider=1)
        missing = [b for b, paths in enumerate(found) if not paths]
        if missing:
            rows = torch.tensor(missing, device=encoder_out.lens_B.device)
            again = EncoderOut(encoder_out.frames_BSD[rows], encoder_out.lens_B[rows])
            for b, paths in zip(missing, self._paths(again, wider=RETRY)):
                found[b] = paths
        places = [b for b, paths in enumerate(found) for _ in paths]
        rows = torch.tensor(places, device=encoder_out.lens_B.device, dtype=torch.int64)
        tokens, frames = _tokens([path.labels for paths in found for path in paths])
        repeated = EncoderOut(encoder_out.frames_BSD[rows], encoder_out.lens_B[rows])
        confidences = iter(zip(tokens, frames, posteriors(self.model, repeated, tokens, frames)))
        return [[self._hypothesis(path, *next(confidences)) for path in paths] or [NOT_FOUND] for paths in found]

    def _hypothesis(self, path: Path, tokens: list[int], frames: list[int], confidences: list[float]) -> Hypothesis:
        scores = {"model": path.model_score}
        words = word_frames = None
        if self.words is not None:
            scores["graph"] = path.graph_score
            words, word_frames = graph_words(self.tokenizer, [self.words[i] for i in path.words], path.word_frames, tokens, frames)
        return Hypothesis(tuple(tokens), path.score, scores, tuple(frames), tuple(confidences), words, word_frames)

    def _paths(self, encoder_out: EncoderOut, wider: int) -> list[list[Path]]:
        k2, joiner = self.k2, self.model.joiner
        config = k2.RnntDecodingConfig(
            vocab_size=self.model.vocab_size, decoder_history_len=self.model.predictor.context_size, beam=self.config.beam * wider,
            max_contexts=self.config.max_contexts * wider, max_states=self.config.max_states * wider,
        )
        streams = k2.RnntDecodingStreams([k2.RnntDecodingStream(self.k2_graph) for _ in encoder_out.lens_B], config)
        encoder_BSJ = joiner.project_encoder(encoder_out.frames_BSD)
        for s in range(int(encoder_out.lens_B.max())):
            shape, contexts_NC = streams.get_contexts()
            encoder_NJ = encoder_BSJ[:, s].index_select(0, shape.row_ids(1).long())
            logits_NV = joiner(encoder_NJ, joiner.project_predictor(self._predict(contexts_NC.long())))
            streams.advance(blank_penalised(logits_NV, self.config.blank_penalty))
        lens_B = encoder_out.lens_B
        if not self.config.published_form:  # k2 ends paths in place of the last frame: give it one more
            _, contexts_NC = streams.get_contexts()
            streams.advance(encoder_BSJ.new_zeros(len(contexts_NC), self.model.vocab_size, dtype=torch.float32))
            lens_B = lens_B + 1
        streams.terminate_and_flush_to_streams()
        lattice = streams.format_output(lens_B.tolist(), allow_partial=wider > 1)
        if not self.config.published_form:  # and leaves out the graph's final scores
            arcs = getattr(lattice, GRAPH_ARC).cpu().numpy()
            added = np.where((arcs >= 0) & (self.graph.label_A[arcs] == FINAL), self.graph.score_A[arcs], 0.0)
            lattice.scores = lattice.scores + torch.from_numpy(added).to(lattice.scores)
        if self.config.nbest == 1:
            lattice = k2.shortest_path(lattice, use_double_scores=True)
        return Lattices.from_k2(lattice, self.graph).n_best(self.config.nbest)

    def _predict(self, contexts_NC: Tensor) -> Tensor:
        """Predictor outputs (N, D) of k2's contexts, which are padded with blanks where training pads with NOTHING and one blank."""
        if not self.config.published_form:
            seen_NC = (contexts_NC != BLANK).cumsum(1) > 0
            last_pad_NC = F.pad(seen_NC[:, 1:], (0, 1), value=True) & ~seen_NC
            contexts_NC = contexts_NC.masked_fill(~(seen_NC | last_pad_NC), NOTHING)
        return self.predictor.outputs(contexts_NC)


def _tokens(labels: list[tuple[int, ...]]) -> tuple[list[list[int]], list[list[int]]]:
    """(tokens, frames) of each utterance, from its labels by frame."""
    frames = [[frame for frame, label in enumerate(row) if label != BLANK] for row in labels]
    return [[row[frame] for frame in places] for row, places in zip(labels, frames)], frames
