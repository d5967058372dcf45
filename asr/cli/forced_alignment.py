"""Forced alignment of transcripts by a trained model, with words, tokens, times and confidences as searches give them."""
from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Literal

import torch

from asr.decode import to_tokens, to_words
from asr.decode.driver import Recogniser
from asr.decode.search import posteriors
from asr.decode.words import word_starts
from asr.losses import align, align_ctc
from asr.score.timed import Aligned
from asr.types import Batch, EncoderOut, Hypothesis, Targets

log = logging.getLogger(__name__)

Method = Literal["transducer", "ctc"]


@torch.no_grad()
def forced_alignments(
    recogniser: Recogniser, method: Method, batches: Iterable[Batch], texts: Mapping[str, str]
) -> Iterator[Aligned]:
    """Utterances that have a text and an alignment; those whose text has unknown parts, or more tokens than fit, are only logged."""
    model, tokenizer = recogniser.model, recogniser.tokenizer
    for batch in batches:
        batch = batch.to(next(model.parameters()).device)
        rows = [row for row, id in enumerate(batch.ids) if id in texts and not tokenizer.unknown(texts[id])]
        out = model.encode(batch.features_BTF, batch.feature_lens_B, batch.before_BTQ, batch.after_BTQ)
        some = EncoderOut(out.frames_BSD[rows], out.lens_B[rows])
        aligned = dict(zip(rows, _hypotheses(recogniser, method, some, [texts[batch.ids[row]] for row in rows]))) if rows else {}
        for row, id in enumerate(batch.ids):
            if (one := aligned.get(row)) is not None:
                clock = recogniser.clock(None if batch.unit_starts is None else batch.unit_starts[row])
                words, tokens = (convert(one, tokenizer, clock) for convert in (to_words, to_tokens))
                yield Aligned(id, texts[id], batch.durations[row], one.score, words, tokens)
            elif id in texts:
                log.warning("%s is not aligned: its text has unknown parts or more tokens than its audio has room for: %s", id, texts[id])


def _hypotheses(recogniser: Recogniser, method: Method, encoder_out: EncoderOut, texts: list[str]) -> list[Hypothesis | None]:
    """The alignments of the texts as searches give them, None where there is none."""
    model, tokens = recogniser.model, [recogniser.tokenizer.encode(text) for text in texts]
    targets = Targets.from_lists(tokens).to(encoder_out.lens_B.device)
    found = align(model, encoder_out, targets) if method == "transducer" else align_ctc(model, encoder_out, targets)
    frames = _rows(found.frames_BU, tokens)
    durations = None if found.durations_BU is None else _rows(found.durations_BU, tokens)
    if method == "transducer" or durations is None:
        confidences = posteriors(model, encoder_out, tokens, frames)
    else:  # of CTC, as its searches do
        probs_BSV = model.ctc_log_probs(encoder_out).exp()
        confidences = [[float(probs_SV[f : f + n, t].max()) if n > 0 else 0.0 for t, f, n in zip(*of)]
                       for probs_SV, *of in zip(probs_BSV, tokens, frames, durations)]
    return [
        None if score == -math.inf else
        Hypothesis(tuple(tokens[b]), score, frames=tuple(frames[b]), confidences=tuple(confidences[b]), words=tuple(texts[b].split()),
                   word_frames=_word_frames(recogniser.tokenizer, texts[b], frames[b]),
                   durations=None if durations is None else tuple(durations[b]))
        for b, score in enumerate(found.log_prob_B.tolist())
    ]


def _word_frames(tokenizer: Any, text: str, frames: list[int]) -> tuple[int, ...]:
    """Where each word's first token is, boundary marks that stand alone not counted."""
    tokens = [tokenizer.encode_word(word) for word in text.split()]
    ends = list(accumulate(map(len, tokens), initial=0))
    return word_starts(tokenizer, sum(tokens, []), frames, [frames[end] for end in ends[:-1]])


def _rows(values_BU: torch.Tensor, tokens: list[list[int]]) -> list[list[int]]:
    return [row[: len(of)] for row, of in zip(values_BU.tolist(), tokens)]
