"""What validate_data.py reports."""
from __future__ import annotations

from asr.data import Transcript
from asr.data.statistics import shared_speakers, statistics


def transcripts() -> list[Transcript]:
    return [Transcript(f"u{k}", "ab cd" * (1 + k % 3), f"s{k % 4}", 1.0 * (1 + k % 3)) for k in range(20)]


def test_statistics() -> None:
    found = statistics(transcripts())
    assert (found.utterances, len(found.speakers)) == (20, 4)
    assert abs(found.hours - sum(t.duration for t in transcripts()) / 3600) < 1e-12
    assert found.seconds == (1.0, 1.0, 2.0, 3.0, 3.0)
    assert set(found.characters) == set("abcd") and len(set(found.characters.values())) == 1
    assert found.unusual == ()


def test_a_wrong_transcript_stands_out() -> None:
    items = [Transcript(f"u{k}", "x" * (18 + k % 5), "s", 2.0) for k in range(30)]
    wrong = [Transcript("long", "x" * 300, "s", 2.0), Transcript("short", "x", "s", 2.0)]
    assert [item.id for item in statistics([*items, *wrong]).unusual] == ["short", "long"]


def test_shared_speakers() -> None:
    first, second = statistics(transcripts()[:2]), statistics(transcripts()[1:4])
    assert shared_speakers({"train": first, "test": second}) == {("train", "test"): frozenset({"s1"})}
    assert shared_speakers({"train": first, "test": statistics(transcripts()[2:4])}) == {}
