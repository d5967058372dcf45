"""Two languages in one model, from audio to scores by language; then adapters for it."""
from __future__ import annotations

import json
import re
from pathlib import Path

from asr import hypotheses
from asr.cli.main import main
from asr.data import read_cuts, read_dropped, read_transcripts
from asr.tokens import load_tokenizer
from tests.recipes.recipe import Recipe

SIZES = ("--utterances", "24", "--dev-utterances", "4", "--test-utterances", "6", "--speakers", "4")


def test_two_languages_from_nothing_to_scores(tmp_path: Path) -> None:
    recipe = Recipe("numbers_multilingual", tmp_path / "run", *SIZES)
    finished = recipe.run("--set", "train.epochs=2")
    assert finished.returncode == 0, finished.stderr
    cuts = read_cuts(recipe.data / "manifests/train.jsonl.gz")
    assert {cut.supervisions[0].language: cut.id[:3] for cut in cuts} == {"en": "en-", "de": "de-"} and len(cuts) == 48
    assert not read_dropped(recipe.data / "manifests/dropped.jsonl")
    tokenizer = load_tokenizer(recipe.exp / "tokens")
    texts = [cut.supervisions[0].text for cut in cuts]
    assert all(re.match(r"<lang:(en|de)> \w", text) and tokenizer.decode(tokenizer.encode(text)) == text for text in texts)
    texts = [item.text for item in read_transcripts(recipe.data / "manifests/test.jsonl.gz")]

    rows = [json.loads(line) for line in (recipe.results / "ledger.jsonl").read_text().splitlines()]
    words = sum(len(text.split()) - 1 for text in texts)
    assert all(row["utterances"] == 12 and row["words"] == words and 0 <= row["language_error"] <= 1 for row in rows)
    assert {"greedy", "beam", "beam_ngram", "ctc_greedy", "ctc_hlg"} <= {row["search"] for row in rows}
    assert "(wrong language " in (recipe.results / "RESULTS.md").read_text()
    report = (recipe.exp / "decode/test/greedy.errors.txt").read_text()
    assert re.search(r"^en +6 ", report, re.M) and re.search(r"^de +6 ", report, re.M)
    heard = hypotheses.read(recipe.exp / "decode/test/ctc_hlg.jsonl").utterances
    assert all(re.match("<lang:(en|de)>", utterance.ref) for utterance in heard)

    base = recipe.exp
    recipe.exp = tmp_path / "adapted"
    tune = ["--set", f"train.init_from={base}", "--set", "train.tune={type: adapters, rank: 2}", "--exp-dir", str(recipe.exp)]
    adapted = recipe.run_stage(6, *tune)
    assert adapted.returncode == 0, adapted.stderr
    assert main(["decode", "--exp-dir", str(recipe.exp), "--data-dir", str(recipe.data), "--splits", "test", "--searches", "greedy"]) == 0
    assert hypotheses.read(recipe.exp / "decode/test/greedy.jsonl").header.complete
    sizes = [sum(path.stat().st_size for path in (exp / "checkpoints").glob("epoch-1.pt")) for exp in (recipe.exp, base)]
    assert 0 < sizes[0] < sizes[1] and "are trained (" in adapted.stderr
