"""Words and tokens with their times, in the formats of other programs."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.files import atomic_dir
from asr.types import Word

SHORTEST = 0.001
"""Seconds that an interval of a TextGrid lasts at least: Praat takes none without a length."""


@dataclass(frozen=True)
class Aligned:
    """A transcript with its times. duration: seconds of the utterance. score: log-probability of the alignment."""

    id: str
    text: str
    duration: float
    score: float
    words: list[Word]
    tokens: list[Word]


def write_alignments(directory: Path, aligned: Sequence[Aligned]) -> None:
    """``words.ctm``, ``tokens.ctm``, ``alignment.jsonl`` (a line per utterance, with all fields of :class:`Aligned`) and
    ``textgrid/<id>.TextGrid``: all of them or none, in place of what was there."""
    with atomic_dir(directory) as new:
        for name in ("words", "tokens"):
            lines = [f"{line}\n" for one in aligned for line in ctm_lines(one.id, getattr(one, name))]
            (new / f"{name}.ctm").write_text("".join(lines), encoding="utf-8")
        rows = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in aligned]
        (new / "alignment.jsonl").write_text("".join(rows), encoding="utf-8")
        (new / "textgrid").mkdir()
        for one in aligned:
            text = textgrid({"words": one.words, "tokens": one.tokens}, one.duration)
            (new / "textgrid" / f"{one.id.replace('/', '_')}.TextGrid").write_text(text, encoding="utf-8")


def ctm_lines(id: str, words: Iterable[Word]) -> list[str]:
    """NIST's CTM: ``id channel start duration word confidence``, in seconds; words without times are left out."""
    return [
        f"{id} 1 {word.start:.3f} {word.end - word.start:.3f} {word.text}" + ("" if word.confidence is None else f" {word.confidence:.4f}")
        for word in words if word.start is not None and word.end is not None
    ]


def textgrid(tiers: Mapping[str, Sequence[Word]], duration: float) -> str:
    """Praat's TextGrid (its long text form): interval tiers, whose gaps are intervals without a label. duration: seconds."""
    filled = {name: _filled(words) for name, words in tiers.items()}
    last = max([duration, *(end for intervals in filled.values() for _, end, _ in intervals)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {last:.4f}", "tiers? <exists>",
             f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(filled.items(), start=1):
        end = intervals[-1][1] if intervals else 0.0
        intervals = [*intervals, (end, last, "")] if end < last or not intervals else intervals
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}", "        xmin = 0",
                  f"        xmax = {last:.4f}", f"        intervals: size = {len(intervals)}"]
        for index, (start, end, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {start:.4f}", f"            xmax = {end:.4f}",
                      f"            text = {_quoted(text)}"]
    return "\n".join(lines) + "\n"


def _filled(words: Iterable[Word]) -> list[tuple[float, float, str]]:
    """Intervals one after the other from 0, as (start, end, label)."""
    intervals: list[tuple[float, float, str]] = []
    reached = 0.0
    for word in words:
        if word.start is None or word.end is None:
            continue
        start = max(word.start, reached)
        if start > reached:
            intervals.append((reached, start, ""))
        reached = max(word.end, start + SHORTEST)
        intervals.append((start, reached, word.text))
    return intervals


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
