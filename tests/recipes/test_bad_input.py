"""What run.sh makes of a corpus or a command line with faults in it: it names them, and loses nothing else."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from asr import hypotheses
from asr.data import read_dropped, read_transcripts
from tests.data.corpora import WORDS, table_corpus, write_wav
from tests.recipes.recipe import Recipe

TOKENS = ("--set", "tokens={type: char}")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """The numbers recipe with a corpus of sine sweeps, a word each: u000 to u015 in train, u016 to u019 in dev, u020 to u023 in test."""
    recipe = Recipe("numbers", tmp_path / "run", *TOKENS)
    table_corpus(recipe.corpus)
    columns, *rows = table(recipe)
    for number, row in enumerate(rows):
        row[2] = WORDS[number % len(WORDS)]
        row[4] = "train" if number < 16 else "dev" if number < 20 else "test"
    write_table(recipe, [columns, *rows])
    (recipe.corpus / "lm_text.txt").write_text("one two\nthree four five\n")
    return recipe


def table(recipe: Recipe) -> list[list[str]]:
    """id, audio, text, speaker, split; the first row names the columns."""
    return [line.split("\t") for line in (recipe.corpus / "transcripts.tsv").read_text().splitlines()]


def write_table(recipe: Recipe, rows: list[list[str]]) -> None:
    (recipe.corpus / "transcripts.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))


def refused(finished: subprocess.CompletedProcess[str], *messages: str) -> bool:
    """Whether it ended with one line that holds all messages, and no traceback."""
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert finished.returncode == 2 and len(errors) == 1 and "Traceback" not in finished.stderr, finished.stderr
    assert all(message in errors[0] for message in messages), errors[0]
    return True


def test_a_faulty_corpus_is_reported_by_id_and_the_rest_goes_on(recipe: Recipe) -> None:
    rows = table(recipe)
    os.truncate(recipe.corpus / rows[1][1], 9000)  # u000
    rows[2][2] = " "  # u001
    rows[4][0] = "u002"  # was u003
    (recipe.corpus / rows[5][1]).unlink()  # u004
    (recipe.corpus / rows[6][1]).write_bytes(b"")  # u005
    rows[7][2] = "five four three two one " * 3  # u006
    rows[18][2] = "sieben €7"  # u017, in dev
    rows[22][2] = "ÄÖÜ"  # u021, in test
    write_table(recipe, rows)

    assert refused(recipe.run("--stage", "1"), "5 of 16 utterances of 'train'", "corpus.max_dropped", "dropped.jsonl")
    assert not list(recipe.data.rglob("train.jsonl.gz"))
    finished = recipe.run("--stage", "1", "--set", "corpus.max_dropped=0.4")
    assert finished.returncode == 0, finished.stderr

    dropped = {item.id: item.reason for item in read_dropped(recipe.data / "manifests/dropped.jsonl")}
    assert {id: reason.partition(":")[0] for id, reason in dropped.items()} == {
        "u000": "truncated audio", "u001": "empty transcript", "u002": "duplicate id", "u004": "no such audio file",
        "u005": "empty audio file"}
    kept = [item.id for item in read_transcripts(recipe.data / "manifests/train.jsonl.gz")]
    assert kept == ["u002", *(f"u{number:03d}" for number in range(6, 16))]
    problems = [json.loads(line) for line in (recipe.exp / "problems.jsonl").read_text().splitlines()]
    assert {item["id"]: item["problem"].partition(":")[0] for item in problems} == {
        "u006": "too short for its transcript", "u017": "unknown characters"}
    decoded = hypotheses.read(recipe.exp / "decode/test/greedy.jsonl").utterances
    assert [(item.id, item.ref) for item in decoded][:2] == [("u020", "one"), ("u021", "ÄÖÜ")], "a test set is scored whole"
    assert (recipe.results / "RESULTS.md").exists()


def test_no_corpus(recipe: Recipe) -> None:
    shutil.rmtree(recipe.corpus)
    assert refused(recipe.run("--stage", "1"), str(recipe.corpus), "the corpus directory is missing", "stage 0")
    recipe.corpus.mkdir()
    assert refused(recipe.run("--stage", "1"), str(recipe.corpus), "the corpus directory is empty")
    (recipe.corpus / "README.md").touch()
    assert refused(recipe.run("--stage", "1"), "transcripts.tsv: no such file")
    assert refused(recipe.run(), "is not empty and not a corpus of this program"), "stage 0 does not write into what is not its own"
    assert not list(recipe.directory.rglob("*.gz"))


def test_a_wrong_sample_rate_is_named_with_its_repair(recipe: Recipe) -> None:
    audio = table(recipe)[3][1]
    write_wav(recipe.corpus / audio, 1.0, rate=8000)
    stages = ("--stage", "1", "--stop-stage", "2")
    assert refused(recipe.run(*stages), audio, "8000 Hz instead of 16000 Hz", "corpus.resample: true")
    assert not list(recipe.data.rglob("*.jsonl.gz"))
    finished = recipe.run(*stages, "--set", "corpus.resample=true")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("override, message", [
    ("train.epoch=2", "unknown key 'train.epoch'; did you mean 'epochs'?"),
    ("model.encoder.type=conformist", "'conformist' is not one of 'conformer'"),
])
def test_a_wrong_setting_is_answered_with_the_nearest_right_one(recipe: Recipe, override: str, message: str) -> None:
    assert refused(recipe.run("--stage", "1", "--set", override), message)
    assert not recipe.data.exists()


def test_a_stage_without_those_before_it(recipe: Recipe) -> None:
    for stage in (2, 4, 6, 7):
        assert refused(recipe.run_stage(stage), "run"), stage
    assert {path.name for path in recipe.directory.iterdir()} == {"corpus"}
