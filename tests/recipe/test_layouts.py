"""Every layout is recognised, and the recipe that is written reads from it what is in it and what was forecast."""
from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from asr.config import load_config
from asr.data import prepare_corpus, read_transcripts
from asr.experiment import ExperimentConfig
from asr.recipe import Hints, look_at, write_recipe
from asr.recipe.layout import path_expression, role
from tests.conftest import ROOT
from tests.recipe.corpora import LAYOUTS, Row, in_splits, kaldi, lj_speech, rows, table, write_audio, write_tsv

ROWS = in_splits(rows(), train=15, dev=3, test=6)


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_read_as_forecast(write: Callable[[Path, Sequence[Row]], None], tmp_path: Path) -> None:
    corpus, egs = tmp_path / "corpus", tmp_path / "egs"
    write(corpus, ROWS)
    egs.mkdir()
    shutil.copy(ROOT / "egs/searches.yaml", egs)
    proposal = look_at(corpus, Hints())
    assert not proposal.findings
    recipe = write_recipe(proposal, egs, "new")
    config = load_config(ExperimentConfig, recipe / "conf/base.yaml")
    prepare_corpus(config.corpus, corpus, tmp_path / "manifests")
    read = {split: read_transcripts(tmp_path / f"manifests/{split}.jsonl.gz") for split in config.corpus.splits}
    assert read == proposal.chosen.splits
    assert {(split, item.id.split("-")[-1], item.text, item.speaker) for split, items in read.items() for item in items} == {
        (row.split, row.id, row.text, row.speaker) for row in ROWS}


@pytest.mark.parametrize("name, expected", [
    ("train", "train"), ("data/train_clean", "train"), ("train-clean-100", "train"), ("Training", "train"), ("english.dev", "dev"),
    ("valid", "dev"), ("val", "dev"), ("test-other", "test"), ("test2", "test"), ("eval", "test"),
    ("all", None), ("trainer", None), ("validated", None), ("s1", None),
])
def test_roles_of_splits(name: str, expected: str | None) -> None:
    assert role(name) == expected


@pytest.mark.parametrize("paths, expected", [
    (["a.wav", "b.wav"], ""),
    (["x/a.wav", "x/b.wav"], ""),
    (["x/train/a.wav", "x/test/b.wav"], "^x/(?P<split>[^/]+)/"),
    (["s1/a.wav", "s1/b.wav", "s2/c.wav", "s2/d.wav"], "^(?P<speaker>[^/]+)/"),
    (["s1/a.wav", "s2/c.wav"], ""),  # a folder for each file says nothing
    (["train/s1/c1/a.wav", "train/s1/c2/b.wav", "test/s2/c3/c.wav", "test/s2/c4/d.wav"], "^(?P<split>[^/]+)/(?P<speaker>[^/]+)/"),
])
def test_fields_in_paths(paths: list[str], expected: str) -> None:
    assert path_expression(paths) == expected


def test_what_the_user_says_comes_first(tmp_path: Path) -> None:
    paths = write_audio(tmp_path, ROWS)
    lines = [(paths[row.id], row.text.upper(), row.text, row.speaker) for row in ROWS]
    write_tsv(tmp_path / "list.tsv", ("audio", "text", "clean", "reader"), lines)
    (tmp_path / "other.tsv").write_text("audio\ttext\n")
    with pytest.raises(ValueError, match=r"2 tables, list\.tsv, other\.tsv: name the one"):
        look_at(tmp_path, Hints())
    proposal = look_at(tmp_path / "list.tsv", Hints(columns={"text": "clean", "speaker": "reader"}))
    assert proposal.layout.source == {"type": "table", "file": "list.tsv", "columns": {"text": "clean", "speaker": "reader"}}
    texts = {utterance.text for utterance in proposal.survey.utterances}
    assert texts == {row.text for row in ROWS} and proposal.survey.speakers() == {row.speaker for row in ROWS}


def test_path_of_a_folder(tmp_path: Path) -> None:
    lj_speech(tmp_path, [replace(row, split="x") for row in ROWS])
    proposal = look_at(tmp_path, Hints(path=r"(?P<speaker>s\d)/(?P<decade>u\d)"))
    assert proposal.survey.speakers() == {row.speaker for row in ROWS}
    assert look_at(tmp_path, Hints(path="")).survey.speakers() == frozenset()


def test_another_encoding(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    path = tmp_path / "list.tsv"
    path.write_bytes(path.read_text().replace("nane", "nañe").encode("cp1252"))
    with pytest.raises(ValueError, match=r"not UTF-8: \d+ of 26 lines .*nañe.* in cp1252; repair the file, or set the encoding"):
        look_at(tmp_path, Hints())
    proposal = look_at(tmp_path, Hints(encoding="cp1252"))
    assert any("nañe" in utterance.text for utterance in proposal.survey.utterances)
    assert proposal.layout.source["encoding"] == "cp1252"


def test_lhotse(shared: Path) -> None:
    proposal = look_at(shared / "corpora/yesno", Hints(lhotse="yesno"))
    assert proposal.layout.source == {"type": "lhotse", "recipe": "yesno"} and len(proposal.survey.utterances) == 60
    assert proposal.chosen.value("corpus.sample_rate") == proposal.chosen.value("features.sample_rate") == 8000


def test_swahili_as_raw_as_it_is(shared: Path) -> None:
    proposal = look_at(shared / "corpora/swahili", Hints())
    source = {"type": "folder", "text": "data/raw_text_file.txt", "separator": ":", "path": "^data/records/(?P<split>[^/]+)/"}
    assert proposal.layout.source == source
    assert {name: len(items) for name, items in proposal.chosen.splits.items()} == {"train": 371, "dev": 46, "test": 42}
    config = load_config(ExperimentConfig, ROOT / "egs/swahili/conf/base.yaml").corpus
    assert config.source.model_dump(exclude_unset=True) == source


def test_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such directory"):
        look_at(tmp_path / "nowhere", Hints())
    with pytest.raises(ValueError, match="nothing here is a corpus"):
        look_at(tmp_path, Hints())
    write_audio(tmp_path, ROWS[:2])
    (tmp_path / "text.txt").write_text("some text\nof other things\n")
    with pytest.raises(ValueError, match="nothing here is a corpus"):
        look_at(tmp_path, Hints())
    write_tsv(tmp_path / "list.tsv", ("file", "words"), [("a.wav", "b")])
    with pytest.raises(ValueError, match="no table here has the columns for audio and text; their headers: list.tsv: file, words"):
        look_at(tmp_path / "list.tsv", Hints())


def test_hints_that_do_not_fit(tmp_path: Path) -> None:
    kaldi(tmp_path, ROWS[:4])
    with pytest.raises(ValueError, match="--columns is about tables"):
        look_at(tmp_path, Hints(columns={"text": "clean"}))
    with pytest.raises(ValueError, match="--path is about folders"):
        look_at(tmp_path, Hints(path="x"))
