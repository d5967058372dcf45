"""The command's own part: arguments, what it prints, and that it leaves nothing half done."""
from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from asr.cli.main import main
from tests.conftest import ROOT
from tests.recipe.corpora import one_file_of_lines, rows


@pytest.fixture
def egs(tmp_path: Path) -> Path:
    (tmp_path / "egs").mkdir()
    (tmp_path / "egs/searches.yaml").write_text((ROOT / "egs/searches.yaml").read_text())
    return tmp_path / "egs"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    directory = tmp_path / "a corpus"
    listed = rows(12, speakers=6)
    one_file_of_lines(directory, listed)
    with open(directory / "doc/text.txt", "a") as file:
        file.write("u99:nobody said this\nu03:another text\n")
    return directory


def test_it_says_what_it_found_and_why(egs: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-recipe", "mine", str(corpus), "--egs-dir", str(egs)]) == 0
    said = capsys.readouterr().out
    for part in ("12 utterances", "no audio file): u99.", "duplicate id): u03.", "Stage 1 drops them.", "tokens: {'type': 'char'}",
                 "whole speakers, none of them in another split"):
        assert part in said, part
    script = (egs / "mine/run.sh").read_text()
    assert f"corpus_dir={shlex.quote(str(corpus))}\n" in script and "test_splits" not in script, "test is the only one"


def test_it_starts_from_the_model_of_the_demo_where_there_is_one(egs: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-recipe", "before", str(corpus), "--egs-dir", str(egs)]) == 0
    (egs / "numbers/exp/conformer").mkdir(parents=True)
    (egs / "numbers/exp/conformer/train_summary.json").write_text("{}")
    assert main(["new-recipe", "after", str(corpus), "--egs-dir", str(egs)]) == 0
    assert "  init_from: null\n" in (egs / "before/conf/base.yaml").read_text()
    assert "  init_from: ../numbers/exp/conformer\n" in (egs / "after/conf/base.yaml").read_text()


def test_a_corpus_with_an_address(egs: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://example.org/corpus.tar.gz"
    assert main(["new-recipe", "mine", str(corpus), "--egs-dir", str(egs), "--url", url]) == 0
    script = (egs / "mine/run.sh").read_text()
    assert str(corpus) not in script and "corpus_dir=download/mine\n" in script and f"--url {url} --to" in script
    assert f"--corpus-dir {shlex.quote(str(corpus))}" in capsys.readouterr().out


def test_a_recipe_is_never_overwritten(egs: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (egs / "mine").mkdir()
    (egs / "mine/run.sh").write_text("mine\n")
    assert main(["new-recipe", "mine", str(corpus), "--egs-dir", str(egs)]) == 2
    assert "this recipe exists already and is never overwritten" in capsys.readouterr().err
    assert [path.name for path in (egs / "mine").iterdir()] == ["run.sh"] and (egs / "mine/run.sh").read_text() == "mine\n"


@pytest.mark.parametrize("arguments, message", [
    (["Mine"], "small letters, digits and _ only"),
    (["mine", "--columns", "text"], "--columns text: expected OURS=THEIRS"),
    (["mine", "--path", "("], "not a regular expression"),
    (["mine", "--encoding", "klingon"], "--encoding klingon: Python knows no"),
    (["mine", "--lhotse", "yesnoo"], "near ones: yesno"),
    (["mine", "--egs-dir", "."], "searches.yaml is missing"),
])
def test_wrong_arguments(egs: Path, corpus: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = arguments
    assert main(["new-recipe", name, str(corpus), "--egs-dir", str(egs), *options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in egs.iterdir()] == ["searches.yaml"]
