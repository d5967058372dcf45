from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from asr.score.timed import Aligned, ctm_lines, textgrid, write_alignments
from asr.types import Word

WORDS = [Word("yes", 0.2, 0.5, 0.75), Word("no", 0.5, 0.5, 0.5), Word('say "hi"', 0.5, 1.25), Word("lost")]


def intervals(text: str) -> list[tuple[float, float, str]]:
    found = re.findall(r'intervals \[\d+\]:\n +xmin = (\S+)\n +xmax = (\S+)\n +text = "((?:[^"]|"")*)"', text)
    return [(float(start), float(end), label.replace('""', '"')) for start, end, label in found]


def test_ctm() -> None:
    assert ctm_lines("u1", WORDS[:2]) == ["u1 1 0.200 0.300 yes 0.7500", "u1 1 0.500 0.000 no 0.5000"]
    assert ctm_lines("u1", WORDS[2:]) == ['u1 1 0.500 0.750 say "hi"']


def test_textgrid_by_hand() -> None:
    text = textgrid({"words": WORDS}, 1.5)
    assert intervals(text) == [(0, 0.2, ""), (0.2, 0.5, "yes"), (0.5, 0.501, "no"), (0.501, 1.25, 'say "hi"'), (1.25, 1.5, "")]
    assert "xmax = 1.5000" in text and "intervals: size = 5" in text
    assert intervals(textgrid({"words": []}, 1.5)) == [(0, 1.5, "")]


@given(times=st.lists(st.integers(0, 40), min_size=2, max_size=12).map(sorted), duration=st.integers(1, 50))
def test_intervals_cover_the_utterance_without_gap_and_all_last(times: list[int], duration: int) -> None:
    words = [Word(f"w{i}", a / 25, b / 25) for i, (a, b) in enumerate(zip(times[::2], times[1::2]))]
    found = intervals(textgrid({"a": words, "b": words[:1]}, duration / 25))
    first = found[: 1 + next(i for i, interval in enumerate(found) if i + 1 == len(found) or found[i + 1][0] == 0)]
    assert [label for *_, label in first if label] == [word.text for word in words]
    assert first[0][0] == 0 and all(a[1] == b[0] for a, b in zip(first, first[1:])) and all(a < b for a, b, _ in first)


def test_files_of_a_set(tmp_path: Path) -> None:
    one = Aligned("talk/1", "yes no", 1.5, -3.0, WORDS[:2], [Word("y", 0.2, 0.3)])
    for _ in range(2):  # again in place of the first
        write_alignments(tmp_path / "align", [one])
    assert sorted(path.relative_to(tmp_path / "align").as_posix() for path in (tmp_path / "align").rglob("*.*")) == [
        "alignment.jsonl", "textgrid/talk_1.TextGrid", "tokens.ctm", "words.ctm"]
    assert json.loads((tmp_path / "align/alignment.jsonl").read_text())["tokens"] == [
        {"text": "y", "start": 0.2, "end": 0.3, "confidence": None}]
