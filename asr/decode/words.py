"""From tokens to words with times and confidence."""
from __future__ import annotations

import math
from typing import Any

from asr.types import Hypothesis, Word


def to_text(hypothesis: Hypothesis, tokenizer: Any) -> str:
    """Words joined by spaces: those of the graph where the search had one, else those the tokenizer makes of the tokens."""
    if hypothesis.words is not None:
        return " ".join(hypothesis.words)
    return str(tokenizer.decode(list(hypothesis.tokens)))


def to_words(hypothesis: Hypothesis, tokenizer: Any, seconds_per_frame: float) -> list[Word]:
    """The words of a hypothesis.

    A word starts at the frame of its first token and ends after that of its last, or where the next word starts if that is
    earlier; a transducer's or CTC's tokens are emitted at points, so the end is as late as the model's last token, no later.
    Confidence is the product of its tokens' posteriors. What the search does not know is None.
    seconds_per_frame: the features' frame shift times the encoder's subsampling.
    """
    if hypothesis.words is None:
        spans = tokenizer.word_spans(list(hypothesis.tokens))
        frames = hypothesis.frames
        starts = None if frames is None else [frames[first] for _, first, _ in spans]
    else:
        starts = None if hypothesis.word_frames is None else list(hypothesis.word_frames)
        spans = _graph_spans(hypothesis)
    words = []
    for index, (text, first, end) in enumerate(spans):
        start = None if starts is None else starts[index]
        stop = _end_frame(hypothesis, starts, index, first, end)
        words.append(Word(text, _seconds(start, seconds_per_frame), _seconds(stop, seconds_per_frame), _confidence(hypothesis, first, end)))
    return words


def _graph_spans(hypothesis: Hypothesis) -> list[tuple[str, int, int]]:
    """Words of a graph with the range of tokens emitted from their start to the next word's; empty ranges where unknown."""
    words = hypothesis.words or ()
    if hypothesis.word_frames is None or hypothesis.frames is None:
        return [(word, 0, 0) for word in words]
    borders = [*hypothesis.word_frames, math.inf]
    firsts = [sum(frame < border for frame in hypothesis.frames) for border in borders]
    return [(word, firsts[i], firsts[i + 1]) for i, word in enumerate(words)]


def _end_frame(hypothesis: Hypothesis, starts: list[int] | None, index: int, first: int, end: int) -> int | None:
    if starts is None:
        return None
    own = hypothesis.frames[end - 1] + 1 if hypothesis.frames is not None and end > first else starts[index] + 1
    following = starts[index + 1] if index + 1 < len(starts) else own
    return max(starts[index], min(own, following))


def _confidence(hypothesis: Hypothesis, first: int, end: int) -> float | None:
    if hypothesis.confidences is None or end <= first:
        return None
    return math.prod(hypothesis.confidences[first:end])


def _seconds(frame: int | None, seconds_per_frame: float) -> float | None:
    return None if frame is None else round(frame * seconds_per_frame, 4)
