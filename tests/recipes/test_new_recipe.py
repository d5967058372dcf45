"""From a table of audio and text to scores: the recipe is written, and runs at a tiny size."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.data import read_dropped, read_transcripts
from tests.conftest import ROOT
from tests.recipe.corpora import csv_of_other_columns, rows


@pytest.fixture
def egs(tmp_path: Path) -> Path:
    """The recipes' directory of a copy of what recipes need."""
    checkout = tmp_path / "checkout"
    for name in ("utils", "local"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "egs").mkdir()
    shutil.copy(ROOT / "egs/searches.yaml", checkout / "egs")
    return checkout / "egs"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": sys.prefix, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=250)


def test_from_a_table_to_scores(egs: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    csv_of_other_columns(corpus, rows(60, speakers=20))
    (corpus / "wav/s1/u04.wav").unlink()
    made = run(sys.executable, "-m", "asr", "new-recipe", "mine", corpus, "--egs-dir", egs)
    assert made.returncode == 0, made.stderr
    assert "u04" in made.stdout and "text from 'sentence'" in made.stdout and made.stdout.endswith(f"{egs / 'mine/run.sh'}\n")

    finished = run(egs / "mine/run.sh", "--config", "conf/tiny.yaml")
    assert finished.returncode == 0, finished.stderr
    data = egs / "mine/data/manifests"
    assert [(item.id, item.reason.partition(":")[0]) for item in read_dropped(data / "dropped.jsonl")] == [
        ("wav-s1-u04", "no such audio file")]
    speakers = [{item.speaker for item in read_transcripts(data / f"{split}.jsonl.gz")} for split in ("train", "dev", "test")]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 20
    results = (egs / "mine/RESULTS.md").read_text()
    assert all(f"| tiny | {search} |" in results for search in ("greedy", "beam", "ctc_greedy", "ctc_hlg"))
