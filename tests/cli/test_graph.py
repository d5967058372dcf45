"""asr graph info, on graphs of known size."""
from __future__ import annotations

import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
import torch

from asr.cli.main import main
from asr.lang import Fst, Lang, LangConfig, make_lexicon, write_lang
from asr.lang.lexicon import lexicon_fst
from asr.tokens import train_tokenizer
from asr.tokens.char import CharTokenizer

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def lang(tmp_path: Path) -> Lang:
    tokenizer = train_tokenizer(CharTokenizer.Config(), ["on no"])
    tokenizer.save(tmp_path)
    return write_lang(make_lexicon(LangConfig(), tokenizer, ["on no"]), tokenizer.symbols, tmp_path)


def test_every_graph_of_a_directory(lang: Lang, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "info", str(lang.directory)]) == 0
    output = capsys.readouterr().out
    assert output.count("states") == 2 and "L.pt" in output and "L_disambig.pt" in output
    first = output[: output.index("L_disambig.pt")]
    assert "states          6\n" in first and "arcs            7, 1 of them to the end; at most 3 from a state" in first
    assert "2 different, on 2 places" in first and "no: 1 arcs share state and label" in first, "both words begin with the boundary"


def test_a_picture_has_all_states_and_labels(lang: Lang, tmp_path: Path) -> None:
    assert main(["graph", "info", str(tmp_path / "L_disambig.pt"), "--draw", str(tmp_path / "L.svg")]) == 0
    picture = xml.parse(tmp_path / "L.svg").getroot()
    texts = [element.text for element in picture.iter() if element.tag in (f"{SVG}text", f"{SVG}tspan") and element.text]
    assert {str(state) for state in range(lang.fst("L_disambig").num_states)} <= set(texts)
    assert {"▁:no", "▁:on", "n", "o", "#0:#0", "end"} <= set(texts)
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    centres = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in picture.iter(f"{SVG}circle")]
    assert all(0 < x < width and 0 < y < height for x, y in centres) and len(set(centres)) == lang.fst("L_disambig").num_states


def test_errors(lang: Lang, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lexicon_fst({str(n): [[1, 2]] * 2 for n in range(200)}).save(tmp_path / "large.pt")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([str(tmp_path / "large.pt"), "--draw", "x.svg"], "cannot be drawn readably"),
        ([str(tmp_path), "--draw", "x.svg"], "--draw wants one graph"),
        ([str(tmp_path / "empty")], "there are no graphs here"),
        ([str(tmp_path / "none.pt")], "no such graph"),
    ):
        assert main(["graph", "info", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_states_on_no_path_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Fst.from_arcs([(0, 1, 1, 0), (0, 2, 2, 3), (2, 3, -1, -1)], torch.zeros(3)).save(tmp_path / "G.pt")
    assert main(["graph", "info", str(tmp_path / "G.pt")]) == 0
    output = capsys.readouterr().out
    assert "states          4, 1 of them on no path" in output and "deterministic   yes" in output
