"""The recipe on discrete units, from audio to RESULTS.md without a network."""
from __future__ import annotations

import json
import shutil

import pytest

from tests.recipes.conftest import Finished
from tests.recipes.recipe import Recipe

TINY = [
    "model.encoder={dim: 16, layers: 1, heads: 2, feedforward: 16, kernel: 3}", "model.frontend.dim=16", "model.predictor.dim=8",
    "model.joiner.dim=8", "train.epochs=1", "train.average_period=1",
    "decode={searches: {beam: null, beam_ngram: null, beam_lexicon: null, ctc_prefix_beam: null, ctc_hlg: null}}",
]


@pytest.mark.parametrize("name, features, bits", [
    ("dmel", "extractor.num_mel_bins=10", 100 * 10 * 4), ("kmeans", "extractor={clusters: 16, codebooks: 2}", 100 * 2 * 4),
])
def test_stages(numbers: Finished, name: str, features: str, bits: int) -> None:
    """On the corpus, manifests and language of the finished recipe."""
    recipe = Recipe("numbers", numbers.recipe.directory.with_name(name), "--config", f"conf/{name}_tdt.yaml",
                    *(word for value in [f"features.{features}", *TINY] for word in ("--set", value)), corpus=numbers.recipe.corpus)
    shutil.copytree(numbers.recipe.data / "manifests", recipe.data / "manifests")
    finished = recipe.run("--stage", "2", "--stop-stage", "3")
    assert finished.returncode == 0, finished.stderr
    finished = recipe.run("--stage", "6")
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in (recipe.results / "ledger.jsonl").read_text().splitlines()]
    read = rows[0]["input"]
    assert read["units"] and read["frames"] == pytest.approx(100, rel=0.01) and read["bits"] == pytest.approx(bits, rel=0.01)
    assert "bits per second" in (recipe.results / "RESULTS.md").read_text()
    assert {row["experiment"] for row in rows} == {f"{name}_tdt"} and {row["search"] for row in rows} == {"greedy", "ctc_greedy"}
