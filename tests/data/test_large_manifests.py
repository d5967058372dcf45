"""Ways through manifests of hundreds of thousands of utterances: their memory does not grow, or by some bytes each."""
from __future__ import annotations

from pathlib import Path

import pytest

from asr.bench.manifests import generate, measure

UTTERANCES = 100_000
WAYS = ("transcripts", "feature_shards", "shuffled_lines", "epoch_plan")
LIMIT = 500
"""Bytes per utterance. A cut takes about 3 kB; what an interpreter takes anyway differs by some hundred here."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large") / "corpus"
    generate(directory, UTTERANCES)
    return directory


@pytest.mark.parametrize("way", WAYS)
def test_memory_per_utterance(way: str, manifest: Path) -> None:
    found = measure(way, manifest)
    assert found.utterances == UTTERANCES
    assert found.memory / UTTERANCES < LIMIT
