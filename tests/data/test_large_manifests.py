"""Ways through manifests of hundreds of thousands of utterances: their memory does not grow, or by some bytes each."""
from __future__ import annotations

from pathlib import Path

import pytest

from asr.bench.manifests import generate, measure

FEW, MANY = 20_000, 80_000
WAYS = ("transcripts", "feature_shards", "shuffled_lines", "epoch_plan")
LIMIT = 300
"""Bytes for each utterance more. A cut takes about 3 kB, and 300 are some megabytes here, by which a process differs from run to run."""


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    directories = {count: tmp_path_factory.mktemp("large") / "corpus" for count in (FEW, MANY)}
    for count, directory in directories.items():
        generate(directory, count)
    return directories


@pytest.mark.parametrize("way", WAYS)
def test_memory_per_utterance(way: str, manifests: dict[int, Path]) -> None:
    few, many = (measure(way, manifests[count]) for count in (FEW, MANY))
    assert (few.utterances, many.utterances) == (FEW, MANY)
    assert (many.memory - few.memory) / (MANY - FEW) < LIMIT
