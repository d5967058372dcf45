"""Stages 1 and 2 and validate_data.py as a recipe runs them."""
from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from asr.cli.program import program
from asr.data import read_cuts
from tests.conftest import ROOT
from tests.data.corpora import table_corpus

CONFIG = ROOT / "egs/numbers/conf/base.yaml"
SPLITS = "corpus.splits={train: train, dev: {from: train, fraction: 0.2}, test: test}"


def program_of(name: str, arguments: list[str]) -> int:
    """A program of local/ with these arguments; its exit status."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "local" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return program(module.add_arguments, module.run, module.__doc__, arguments)


def run(name: str, directory: Path, *arguments: str | Path) -> int:
    experiment = ["--config", CONFIG, "--data-dir", directory / "data", "--set", SPLITS, *arguments]
    return program_of(name, [str(argument) for argument in experiment])


def stages(directory: Path, *arguments: str | Path) -> list[int]:
    return [
        run("prepare_manifests", directory, "--corpus-dir", directory / "corpus", *arguments),
        run("compute_features", directory, "--jobs", "2", *arguments),
    ]


def times(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (directory / "data").rglob("*") if path.is_file()}


def test_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_corpus(tmp_path / "corpus", speakers=5)  # the fourth has utterances on both sides
    assert stages(tmp_path) == [0, 0]
    assert {path.name for path in (tmp_path / "data/fbank_80").glob("*.gz")} == {"train.jsonl.gz", "dev.jsonl.gz", "test.jsonl.gz"}
    assert all(cut.has_features for cut in read_cuts(tmp_path / "data/fbank_80/dev.jsonl.gz"))
    before = times(tmp_path)
    assert stages(tmp_path) == [0, 0]
    assert times(tmp_path) == before, "up to date: nothing is written"

    assert run("validate_data", tmp_path) == 0
    output = capsys.readouterr().out
    assert [line.split()[0] for line in output.splitlines()[:4]] == ["split", "train", "dev", "test"]
    assert "and in test: s3" in output
    assert "0 utterances were dropped" in output


def test_a_changed_corpus_is_prepared_again(tmp_path: Path) -> None:
    table_corpus(tmp_path / "corpus")
    assert stages(tmp_path) == [0, 0]
    path = tmp_path / "corpus/transcripts.tsv"
    path.write_text(path.read_text().replace("u023.wav\tone two three four", "u023.wav\tfour"))
    assert stages(tmp_path) == [0, 0]
    assert read_cuts(tmp_path / "data/fbank_80/test.jsonl.gz")[-1].supervisions[0].text == "four"


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = table_corpus(tmp_path / "corpus")
    assert run("compute_features", tmp_path) == 2
    assert "run the stage that makes it first" in capsys.readouterr().err
    assert run("prepare_manifests", tmp_path, "--corpus-dir", tmp_path / "nowhere") == 2
    assert "corpus directory is missing" in capsys.readouterr().err
    assert run("prepare_manifests", tmp_path, "--corpus-dir", corpus, "--set", "corpus.sample_rate=8000") == 2
    assert "make them the same" in capsys.readouterr().err
    os.truncate(corpus / "wav/s0/u000.wav", 100)
    assert run("prepare_manifests", tmp_path, "--corpus-dir", corpus, "--set", "corpus.max_dropped=0") == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("error: 1 of 16 utterances") and "Traceback" not in "".join(errors)


def test_features_on_the_fly_need_no_stage(tmp_path: Path) -> None:
    table_corpus(tmp_path / "corpus")
    assert stages(tmp_path, "--set", "features.stored=false") == [0, 0]
    assert not (tmp_path / "data/fbank_80").exists()
