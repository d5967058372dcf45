from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from asr import hypotheses
from asr.hypotheses import Header, Utterance
from asr.score import score_file
from asr.score.calibration import Bin, calibrate
from asr.score.errors import Counts, score
from asr.score.evaluate import Result
from asr.score.page import best, error_page, worst
from asr.score.plots import WIDTH, Clip, error_bar, reliability_diagram, sound, spectrogram
from asr.types import Word

VOID = {"meta", "img", "br", "rect", "line", "circle"}
EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements with their attributes, and the text; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def tone(seconds: float, hertz: float = 1000, rate: int = 16000) -> Clip:
    return Clip(0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32), rate)


@pytest.fixture
def result(tmp_path: Path) -> Result:
    utterances = [
        Utterance("good", "yes no", "yes no", "s1", 1.0, (Word("yes", 0.1, 0.4, 0.9), Word("no", 0.5, 0.8, 0.8))),
        Utterance(EVIL, f"{EVIL} & \"quoted\"", f"{EVIL} 'quoted' \ud800", "<b>s2</b>", 2.0,
                  (Word(EVIL, 0.1, 0.4, 0.9), Word("'quoted'", 0.5, 0.8, 0.7), Word("\ud800", 0.8, 0.9, 0.6))),
        Utterance("hebrew", "כן לא כן", "כן כן", "s1", 3.0, (Word("כן", 0.1, 0.4, 0.9), Word("כן", 0.5, 0.8, 0.8))),
        Utterance("thai", "วันที่ หนึ่ง", "วันที่ สอง", None, 4.0, (Word("วันที่", 0.1, 0.4, 0.9), Word("สอง", 0.5, 0.8, 0.3))),
        Utterance("loop", "a b c d e f g", "a no no no no", "s1", 40.0),
    ]
    path = tmp_path / "decode" / "test" / "beam.jsonl"
    header = Header("beam", "test", {"note": EVIL}, 1.0, 50.0, "epoch 1", True, {"lm": 0.3}, "dev")
    hypotheses.write(path, header, utterances[:1])
    found = score_file(path)
    return replace(found, scored=score(utterances))  # what is no Unicode text cannot be written, but be read


def test_a_page_holds_all_it_needs_and_no_more_than_text_of_others(result: Result) -> None:
    clips = {"loop": tone(40), EVIL: tone(1)}
    html = error_page(result, f"tiny, {EVIL}", {"dev": Counts(10, 1), "test": Counts(12, 2, 1, 1)}, clips, utterances=3)
    page = Page(html.encode().decode())
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "object", "form", "a"})
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "http:" not in html and "https:" not in html and "url(" not in html
    policy = next(attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    assert EVIL in page.text and "<b>s2</b>" in page.text
    assert sum(tag == "audio" for tag, _ in page.elements) == 2 and "The first 30 of 40 seconds." in html


def test_sections_say_what_is_wrong(result: Result) -> None:
    page = Page(error_page(result, "tiny", {"test": result.scored.words}, {}, utterances=2))
    text = " ".join(page.text)
    for heading in ("By set", "By speaker", "By length", "Words", "Confidence", "Words left out in a row", "Repetitions"):
        assert heading in page.text
    assert "substitutions" in text and "not calibrated" in text and "scales tuned on dev" in text
    assert "loop 4 no" in re.sub(r"\s+", " ", text)


def test_words_are_whole_and_take_the_direction_of_their_script(result: Result) -> None:
    html = error_page(result, "tiny", {}, {}, utterances=9)
    for word in ("วันที่", "כן"):
        assert f"<span>{word}</span>" in html
    assert html.count('<div class="aligned" dir="auto">') == 9 and "unicode-bidi: isolate" in html


def test_the_worst_and_the_best(result: Result) -> None:
    assert [u.utterance.id for u in worst(result.scored, 9)] == ["loop", EVIL, "thai", "hebrew"]
    assert [u.utterance.id for u in best(result.scored, 2)] == ["good", "hebrew"]


def test_players_beyond_the_limit_are_left_out(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = {name: tone(2) for name in ("loop", "thai", "hebrew")}
    one = len(error_page(result, "tiny", {}, {"loop": tone(2)}, utterances=9)) - len(error_page(result, "tiny", {}, {}, utterances=9))
    monkeypatch.setattr("asr.score.page.AUDIO_BYTES", 2.5 * one)
    html = error_page(result, "tiny", {}, clips, utterances=9)
    assert html.count("<audio") == 2 and html.count("the page would become too large") == 1


def test_calibration_is_shown(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "decode" / "dev" / "beam.jsonl"
    hypotheses.write(path, replace(result.header, split="dev"), [result.scored.utterances[0].utterance])
    calibrate([path], tmp_path / "decode" / "calibration.json")
    assert "% after calibration on dev" in error_page(result, "tiny", {}, {}, utterances=1)


def test_a_tone_is_a_dark_line_and_sounds_the_same() -> None:
    clip = tone(1.0, hertz=2000)
    picture = imread(io.BytesIO(base64.b64decode(spectrogram(clip).partition(",")[2])))[..., 0]
    assert picture.shape == (128, 98)
    assert 1 - np.argmin(picture.mean(axis=1)) / 128 == pytest.approx(2000 / 8000, abs=0.02)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound(clip).partition(",")[2])))
    assert rate == 16000 and np.allclose(samples, clip.samples, atol=1e-4)
    assert spectrogram(Clip(np.zeros(10, dtype=np.float32), 8000)).startswith("data:image/png")


def test_bars_and_circles() -> None:
    widths = [float(width) for width in re.findall(r'<rect x="[\d.]+" width="([\d.]+)"', error_bar(Counts(100, 10, 5, 5), 0.4))]
    assert widths == [WIDTH / 4, WIDTH / 8, WIDTH / 8]
    assert error_bar(Counts(0, 0, 0, 3), 0.5).count("<rect") == 1
    drawn = reliability_diagram([Bin(9, 0.5, 0.25)], [Bin(9, 0.25, 0.25)])
    assert drawn.count("<circle") == 2 and 'cx="160.0" cy="195.0"' in drawn and 'cx="95.0" cy="195.0"' in drawn
