"""Whole recipes at a tiny size, from audio to RESULTS.md."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from asr import fsa, hypotheses
from tests.conftest import ROOT
from tests.recipes.conftest import Finished
from tests.recipes.recipe import Recipe, contents, differences

SEARCHES = ["greedy", "beam", "beam_ngram", "beam_lexicon", "ctc_greedy", "ctc_prefix_beam", "ctc_hlg"]
K2_SEARCHES = ["fast_beam", "fast_beam_lg"]
LM_SEARCHES = ["beam_rnn_lm", "beam_rnn_lm_lodr", "beam_rnn_lm_ilm", "beam_rescored"]
TUNED = {"beam_ngram", "beam_lexicon", "ctc_prefix_beam", "fast_beam_lg", "ctc_hlg", *LM_SEARCHES}


def here(recipe: Recipe) -> list[str]:
    """The searches of egs/searches.yaml, and of egs/lm_searches.yaml for ``numbers``, that can run on this stack."""
    return SEARCHES + (LM_SEARCHES if recipe.name == "numbers" else []) + (K2_SEARCHES if fsa.available() else [])


def ledger(recipe: Recipe) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (recipe.results / "ledger.jsonl").read_text().splitlines()]


def check_results(recipe: Recipe, utterances: int) -> None:
    """A row with all its facts for each search that can run, reports beside the hypotheses, and a table that names them all."""
    rows = ledger(recipe)
    assert sorted(row["search"] for row in rows) == sorted(here(recipe))
    for row in rows:
        errors = row["substitutions"] + row["deletions"] + row["insertions"]
        assert row["wer"] == errors / row["words"] and row["wer_low"] <= row["wer"] <= row["wer_high"]
        assert (row["experiment"], row["split"], row["utterances"]) == ("tiny", "test", utterances)
        assert re.fullmatch("[0-9a-f]{40}", row["commit"]) and row["dirty"] in (True, False)
        assert row["hardware"]["cpu"] and row["hardware"]["cores"] >= 1
        assert row["training"]["seed"] == 42 and row["training"]["epochs"] == 2 and row["training"]["device"]
        assert all(row["training"][budget] > 0 for budget in ("steps", "seconds", "audio_hours", "parameters"))
        assert 1000 < row["training"]["parameters"] < 10_000
        assert (row["tuned_on"] == "dev" and row["scales"]) if row["search"] in TUNED else row["tuned_on"] is None
        assert row["command"].startswith("asr score ") and row["training"]["command"].startswith("asr train ")
        check_reports(recipe.exp / "decode/test", row["search"], errors)
    table = (recipe.results / "RESULTS.md").read_text()
    assert all(re.search(rf"\| tiny \| {search} \| \d+\.\d\d \[\d", table) for search in here(recipe))


def check_reports(directory: Path, search: str, errors: int) -> None:
    decoded = hypotheses.read(directory / f"{search}.jsonl")
    report = (directory / f"{search}.errors.txt").read_text()
    assert f"  {errors} errors in " in report and all(utterance.id in report for utterance in decoded.utterances)
    speakers = (directory / f"{search}.per_speaker.txt").read_text()
    assert all((utterance.speaker or "no speakers are known") in speakers for utterance in decoded.utterances)


def test_numbers_from_nothing_to_a_table(numbers: Finished) -> None:
    check_results(numbers.recipe, utterances=10)
    tuned = json.loads((numbers.recipe.exp / "decode/tuned.json").read_text())
    assert tuned.keys() == TUNED & set(here(numbers.recipe))
    assert not list(numbers.recipe.directory.rglob("*.part*")), "nothing half-written is left"


def test_run_again_it_finds_everything_done(numbers: Finished) -> None:
    recipe = numbers.recipe
    before, times = contents(recipe.directory), modified(recipe.directory)
    finished = recipe.run()
    assert finished.returncode == 0, finished.stderr
    assert differences(contents(recipe.directory), before) == []
    rewritten = {name for name, time in modified(recipe.directory).items() if times.get(name) != time}
    scored = {f"exp/decode/test/{search}.{report}" for search in here(recipe) for report in ("errors.txt", "per_speaker.txt", "html")}
    assert rewritten == scored | {"results/ledger.jsonl", "results/RESULTS.md"}, "scoring is not cached; all else is left alone"
    said = finished.stderr + finished.stdout
    assert said.count("up to date") == 10
    assert said.count("already decoded") == 2 * len(here(recipe))
    for search in K2_SEARCHES:
        lines = [line for line in said.splitlines() if re.match(rf"{search} .*needs k2", line)]
        assert len(lines) == (0 if fsa.available() else 2), "one line in each of the stages 7 and 8"


def modified(directory: Path) -> dict[str, int]:
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in directory.rglob("[!.]*") if path.is_file()}


def test_an_array_of_jobs_leaves_what_one_process_does(numbers: Finished) -> None:
    with numbers.again("corpus", "data", "exp") as recipe:
        shutil.rmtree(recipe.data / "fbank_20")
        shutil.rmtree(recipe.exp / "decode")
        for stage in (2, 7):
            finished = recipe.run_stage(stage, "--nj", "2", "--cmd", "utils/run.pl --max-jobs-run 1")
            assert finished.returncode == 0, finished.stderr
        logs = {path.name for path in (recipe.exp / "log").iterdir()}
        assert logs == {"features.1.log", "features.2.log", "decode_dev.1.log", "decode_dev.2.log"}
        left = {name: content for name, content in contents(recipe.directory).items() if not name.startswith("exp/log/")}
    done = {name: content for name, content in numbers.contents.items() if not name.startswith(("results/", "exp/decode/test/"))}
    assert differences(left, done) == []


def test_yesno_in_one_go_and_outside_of_the_repository(shared: Path, tmp_path: Path) -> None:
    before = checkout()
    recipe = Recipe("yesno", tmp_path / "run", corpus=shared / "corpora/yesno")
    finished = recipe.run()
    assert finished.returncode == 0, finished.stderr
    stages = [int(number) for number in re.findall(r"^== stage (\d):", finished.stdout, re.MULTILINE)]
    assert stages == [0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 9, 9]
    check_results(recipe, utterances=30)
    assert {path.name for path in recipe.directory.iterdir()} == {"data", "exp", "results"}
    assert checkout() == before


def checkout() -> tuple[str, set[Path]]:
    """What git sees of the recipes, and the files of egs/yesno, be they ignored or not."""
    status = subprocess.run(["git", "status", "--porcelain", "--", "egs", "local", "utils"], cwd=ROOT, capture_output=True, text=True)
    return status.stdout, set((ROOT / "egs/yesno").iterdir())
