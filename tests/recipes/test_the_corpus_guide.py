"""docs/add-a-corpus.md works as printed: its table, script, config and run.sh take a corpus of that layout through stages 1 to 5."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from asr.data import read_dropped, read_transcripts
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "add-a-corpus.md").read_text(encoding="utf-8")
SESSIONS = ("200701-101457", "200702-201811", "200703-095932")


def block(first_line: str) -> str:
    """The one fenced block that begins with ``first_line``."""
    found = [text for text in re.findall(r"^```\w*\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) if text.startswith(first_line)]
    assert len(found) == 1, f"{len(found)} blocks begin with '{first_line}'"
    return found[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty short recordings of noise in the layout of Swahili-Speech; one has no transcript, one is too long."""
    directory = tmp_path_factory.mktemp("Swahili-Speech")
    rng = np.random.default_rng(0)
    words = ["Habari", "za", "asubuhi", "watu", "wengi", "nchini", "Kenya", "Tanzania", "Uganda", "leo", "kesho", "serikali", "afya"]
    lines = []
    for number in range(30):
        id = f"{SESSIONS[number % 3]}_swh_35d_elicit_{number}"
        path = directory / "data/records" / ("train", "val", "test")[number % 3] / f"{id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.normal(scale=0.1, size=16000 * (31 if number == 4 else 1)), 16000)
        if number != 7:
            lines.append(f"{id}:{' '.join(rng.choice(words, size=4))}.\n")
    (directory / "data/raw_text_file.txt").write_text("".join(lines))
    subprocess.run(["bash", "-c", block("find data/records")], cwd=directory, check=True)
    return directory


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """egs/mine with the files of the guide, in a copy of what recipes need."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("utils", "local"):
        shutil.copytree(ROOT / name, root / name)
    directory = root / "egs" / "mine"
    (directory / "conf").mkdir(parents=True)
    shutil.copy(ROOT / "egs/searches.yaml", root / "egs")
    (directory / "run.sh").write_text(block("#!/usr/bin/env bash"))
    (directory / "run.sh").chmod(0o755)
    (directory / "conf/base.yaml").write_text(block("# Two hours of Swahili"))
    (directory / "prepare.py").write_text(block('"""Swahili-Speech'))
    return directory / "run.sh"


def run(recipe: Path, corpus: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": sys.prefix, "PYTHONPATH": str(ROOT)}
    command = [str(recipe), "--stage", "1", "--corpus-dir", str(corpus), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)


def test_table_config_and_recipe(recipe: Path, corpus: Path) -> None:
    finished = run(recipe, corpus, "--stop-stage", "5", "--set", "tokens.vocab_size=40", "--set", "corpus.max_dropped=0.1")
    assert finished.returncode == 0, finished.stderr
    data = recipe.parent / "data"
    assert [(item.id, item.reason.partition(":")[0]) for item in read_dropped(data / "manifests/dropped.jsonl")] == [
        (f"{SESSIONS[1]}_swh_35d_elicit_4", "too long"), (f"{SESSIONS[1]}_swh_35d_elicit_7", "empty transcript"),
    ]
    sizes = {split: len(read_transcripts(data / f"fbank_80/{split}.jsonl.gz")) for split in ("train", "dev", "test")}
    assert sum(sizes.values()) == 28 and sizes["dev"] > 0 and sizes["test"] > 0
    assert (data / "lang_bpe_40/token.arpa").exists()


def test_the_script_gives_the_same_as_the_table(recipe: Path, corpus: Path) -> None:
    text = yaml.safe_load(block("corpus:\n  source: {type: table}\n  text:"))["corpus"]["text"]
    found = []
    for source in ("table", "script"):
        data = recipe.parent / f"data_{source}"
        finished = run(recipe, corpus, "--stop-stage", "1", "--data-dir", str(data), "--set", f"corpus.source={{type: {source}}}",
                       "--set", f"corpus.text={text}", "--set", "corpus.max_dropped=0.1")
        assert finished.returncode == 0, finished.stderr
        found.append({split: read_transcripts(data / f"manifests/{split}.jsonl.gz") for split in ("train", "dev", "test")})
    assert found[0] == found[1]
    assert all(item.text == item.text.lower().replace(".", "") for item in found[0]["train"])


def test_splits_by_session(recipe: Path, corpus: Path) -> None:
    splits = yaml.safe_load(block("splits:\n  train: {from: all, where"))["splits"]
    data = recipe.parent / "data_sessions"
    finished = run(recipe, corpus, "--stop-stage", "1", "--data-dir", str(data), "--set", f"corpus.splits={splits}",
                   "--set", "corpus.max_dropped=0.1")
    assert finished.returncode == 0, finished.stderr
    test = {item.id[:13] for item in read_transcripts(data / "manifests/test.jsonl.gz")}
    train = {item.id[:13] for item in read_transcripts(data / "manifests/train.jsonl.gz")}
    assert test == {SESSIONS[2]} and train == set(SESSIONS[:2])
