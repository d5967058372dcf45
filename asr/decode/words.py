"""From tokens to words with times and confidence, and the same of the tokens themselves."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Sequence

from asr.lang.lexicon import JOINT, SPELLED
from asr.lm.ngram import UNK
from asr.types import Hypothesis, Word

Clock = Callable[[int], float]
"""Seconds from the start of the utterance to the start of an encoder frame."""


class Span(NamedTuple):
    """A word, and the tokens ``first`` up to but without ``end`` that spell it; none where that is not known."""

    text: str
    first: int
    end: int


def to_text(hypothesis: Hypothesis, tokenizer: Any) -> str:
    """Words joined by spaces: those of the graph where the search had one, else those the tokenizer makes of the tokens."""
    if hypothesis.words is not None:
        return " ".join(hypothesis.words)
    return str(tokenizer.decode(list(hypothesis.tokens)))


def to_words(hypothesis: Hypothesis, tokenizer: Any, seconds: Clock | float) -> list[Word]:
    """The words of a hypothesis.

    A word starts at the frame of its first token and ends after that of its last, or where the next word starts if that is
    earlier. Transducers emit a token at one point of its duration, so these times are those of the emissions; where the model has
    learnt durations, or CTC labelled several frames with it, a word ends with its last token's.
    Confidence is the product of the posteriors of the word's tokens. What the search does not know is None.
    seconds: per encoder frame (the features' frame shift times the encoder's subsampling), or a function where frames differ.
    """
    spans = _spans(hypothesis, tokenizer)
    starts = _starts(hypothesis, spans)
    words = []
    for index, span in enumerate(spans):
        start = end = None
        if starts is not None:
            start = starts[index]
            end = _end(hypothesis, span, start)
            if index + 1 < len(starts):
                end = max(start, min(end, starts[index + 1]))
        words.append(Word(span.text, _seconds(start, seconds), _seconds(end, seconds), _confidence(hypothesis, span)))
    return words


def to_tokens(hypothesis: Hypothesis, tokenizer: Any, seconds: Clock | float) -> list[Word]:
    """The same of the tokens: their symbols, each until it ends or the next one starts."""
    frames = hypothesis.frames
    found = []
    for index, token in enumerate(hypothesis.tokens):
        start = end = None
        if frames is not None:
            start = frames[index]
            end = _end(hypothesis, Span("", index, index + 1), start)
            end = end if index + 1 == len(frames) else max(start, min(end, frames[index + 1]))
        found.append(Word(tokenizer.symbols[token], _seconds(start, seconds), _seconds(end, seconds),
                          _confidence(hypothesis, Span("", index, index + 1))))
    return found


def word_starts(tokenizer: Any, tokens: Sequence[int], frames: Sequence[int], arc_frames: Sequence[int]) -> tuple[int, ...]:
    """Start frames of a graph's words: those of the tokens that begin words, where they are as many.

    arc_frames: where the graph told each word, which may be later than its start, because determinisation delays what is not
    yet certain; taken where the tokens do not show the words.
    """
    spans = tokenizer.word_spans(list(tokens))
    if len(spans) != len(arc_frames):
        return tuple(arc_frames)
    return tuple(frames[first] for _, first, _ in spans)


def graph_words(
    tokenizer: Any, units: Sequence[str], unit_frames: Sequence[int], tokens: Sequence[int], frames: Sequence[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(words, their start frames) of what a graph told: units are joined at their marks, and where the graph let any tokens through for
    a word out of the lexicon, it is what they spell (``<unk>`` where the tokens do not show the words).
    """
    first = [i for i, unit in enumerate(units) if i == 0 or not (unit.startswith(JOINT) or units[i - 1].endswith(JOINT))]
    words = ["".join(units[i:end]).replace(JOINT, "") for i, end in zip(first, [*first[1:], len(units)])]
    if SPELLED in units:
        spans = tokenizer.word_spans(list(tokens))
        spelled = [span.word for span in spans] if len(spans) == len(words) else [word.replace(SPELLED, UNK) for word in words]
        words = [other if SPELLED in word else word for word, other in zip(words, spelled)]
    return tuple(words), word_starts(tokenizer, tokens, frames, [unit_frames[i] for i in first])


@dataclass(frozen=True)
class Part:
    """What was found in a stretch of a recording that begins at the encoder frame ``first``; what begins from ``begin`` up to but
    without ``end`` counts."""

    hypothesis: Hypothesis
    first: int
    begin: int
    end: int


def joined_parts(parts: Sequence[Part], tokenizer: Any) -> Hypothesis:
    """The hypothesis of a whole recording: the words of all parts that begin where they count. Scores are added."""
    words: list[str] = []
    starts: list[int] = []
    kept: list[tuple[Part, int]] = []  # a part and the place of a token in it; a mark that stands alone goes with the word after it
    for part in parts:
        spans = _spans(part.hypothesis, tokenizer)
        frames = _starts(part.hypothesis, spans)
        assert frames is not None, "a search without times"
        for before, span, frame in zip([0, *(span.end for span in spans)], spans, frames):
            if part.begin <= part.first + frame < part.end:
                words.append(span.text)
                starts.append(part.first + frame)
                kept += [(part, i) for i in range(before, span.end)]
    found = [part.hypothesis for part in parts]
    return Hypothesis(
        tokens=tuple(part.hypothesis.tokens[i] for part, i in kept), score=sum(h.score for h in found),
        scores={name: sum(h.scores.get(name, 0.0) for h in found) for h in found[:1] for name in h.scores},
        frames=tuple(part.first + part.hypothesis.frames[i] for part, i in kept if part.hypothesis.frames is not None),
        confidences=tuple(part.hypothesis.confidences[i] for part, i in kept if part.hypothesis.confidences is not None),
        words=tuple(words), word_frames=tuple(starts),
        durations=tuple(part.hypothesis.durations[i] for part, i in kept if part.hypothesis.durations is not None) or None,
    )


def _spans(hypothesis: Hypothesis, tokenizer: Any) -> list[Span]:
    spans = [Span(*span) for span in tokenizer.word_spans(list(hypothesis.tokens))]
    words, starts, frames = hypothesis.words, hypothesis.word_frames, hypothesis.frames
    if words is None:
        return spans
    if len(spans) == len(words):
        return [Span(word, first, end) for word, (_, first, end) in zip(words, spans)]
    if starts is None or frames is None:
        return [Span(word, 0, 0) for word in words]
    borders = [sum(frame < start for frame in frames) for start in starts] + [len(frames)]
    return [Span(word, borders[i], borders[i + 1]) for i, word in enumerate(words)]


def _starts(hypothesis: Hypothesis, spans: list[Span]) -> list[int] | None:
    if hypothesis.words is not None and hypothesis.word_frames is not None:
        return list(hypothesis.word_frames)
    if hypothesis.words is not None or hypothesis.frames is None:
        return None
    return [hypothesis.frames[span.first] for span in spans]


def _end(hypothesis: Hypothesis, span: Span, start: int) -> int:
    """The frame after the last token of the word, which lasts a frame at least."""
    if not hypothesis.frames or span.end == span.first:
        return start + 1
    lasts = hypothesis.durations[span.end - 1] if hypothesis.durations else 1
    return hypothesis.frames[span.end - 1] + max(lasts, 1)


def _confidence(hypothesis: Hypothesis, span: Span) -> float | None:
    if hypothesis.confidences is None or span.end <= span.first:
        return None
    return round(math.prod(hypothesis.confidences[span.first : span.end]), 6)


def _seconds(frame: int | None, seconds: Clock | float) -> float | None:
    if frame is None:
        return None
    return round(seconds(frame) if callable(seconds) else frame * seconds, 4)
