"""A round of refinement of GigaSpeech 2: what a teacher makes of the raw audio becomes the corpus of a student."""
from __future__ import annotations

from pathlib import Path

from asr import hypotheses
from asr.data import read_transcripts
from tests.conftest import ROOT
from tests.recipes.layouts import gigaspeech2
from tests.recipes.recipe import Recipe

ANYTHING = "--min-confidence 0 --min-rate 0 --max-rate 1000 --max-repeats 1000 --max-disagreement 1"
TALKATIVE = ("beam", "ctc_greedy")


def tiny(name: str, directory: Path) -> str:
    path = directory / f"{name}.yaml"
    path.write_text(f"extends: [{ROOT}/egs/gigaspeech2/conf/{name}.yaml, {ROOT}/egs/tiny.yaml]\ntokens: {{vocab_size: 40}}\n")
    return str(path)


def test_a_student_learns_what_its_teacher_heard(tmp_path: Path) -> None:
    corpus = gigaspeech2(tmp_path / "corpus", "id")
    teacher = Recipe("gigaspeech2", tmp_path / "raw", "--language", "id", "--config", tiny("raw", tmp_path), corpus=corpus)
    penalties = [option for search in TALKATIVE for option in ("--set", f"decode.searches.{search}.blank_penalty=4")]
    trained = teacher.run("--stop-stage", "6", *penalties)
    assert trained.returncode == 0, trained.stderr
    student = Recipe("gigaspeech2", tmp_path / "student", "--config", tiny("student", tmp_path), "--teacher-dir", str(teacher.exp),
                     "--raw-data-dir", str(teacher.data), "--set", "corpus.max_rate=1000", "--set", "corpus.max_dropped=1")
    prepared = student.run("--stop-stage", "1", "--rules", ANYTHING)
    assert prepared.returncode == 0, prepared.stderr

    heard = {item.id: item.hyp for item in hypotheses.read(teacher.exp / "decode/train/beam.jsonl").utterances}
    learnt = {item.id: item.text for item in read_transcripts(student.data / "manifests/train.jsonl.gz")}
    assert learnt and learnt == {id: text for id, text in heard.items() if text} and len(heard) == 24
    dev = [read_transcripts(recipe.data / "manifests/dev.jsonl.gz") for recipe in (teacher, student)]
    assert dev[0] == dev[1] and {item.text for item in dev[0]} == {
        "selamat pagi teman teman", "kami pergi ke pasar membeli buah", "hujan turun deras tadi malam", "anak anak bermain di halaman"}
