"""Plans that bound the lattice of a batch, and what the largest batch is made of."""
from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from asr.config import validate
from asr.data import BatchConfig, extremes, prepare_corpus, read_cuts, training_loader
from asr.data.batches import training_plan
from asr.data.shar import Place
from asr.features import Fbank
from tests.data.corpora import Letters, corpus_config, table_corpus

FEATURES = Fbank.Config(num_mel_bins=40, stored=False)


def config(**values: Any) -> BatchConfig:
    return validate(BatchConfig, {"workers": 0, **values}, "test")


def corpus(size: int, seed: int = 3) -> tuple[list[Place], dict[Any, int]]:
    """Utterances of 1 to 15 s with 2 to 8 tokens a second."""
    random_ = random.Random(seed)
    places = [Place(0, row, random_.uniform(1, 15)) for row in range(size)]
    return places, {place.id: round(place.duration * random_.uniform(2, 8)) for place in places}


def cost(batch: list[Place], tokens: dict[Any, int]) -> float:
    return len(batch) * max(place.duration for place in batch) * (max(tokens[place.id] for place in batch) + 1)


def test_no_batch_exceeds_either_limit() -> None:
    places, tokens = corpus(3000)
    limits = config(max_duration=100, max_lattice=6000)
    plan = training_plan(places, limits, 1, 1, lambda place: tokens[place.id])
    assert sorted(place.id for batch in plan for place in batch) == sorted(place.id for place in places)
    many = [batch for batch in plan if len(batch) > 1]
    assert len(many) > 0.9 * len(plan)
    assert max(cost(batch, tokens) for batch in many) <= 6000
    assert max(len(batch) * max(place.duration for place in batch) for batch in many) <= 100
    without = training_plan(places, config(max_duration=100), 1, 1)
    assert max(cost(batch, tokens) for batch in without) > 1.5 * 6000


def test_utterances_with_as_many_tokens_are_together() -> None:
    """Fewer nodes of the lattices are padding than where durations alone make the buckets."""
    places, tokens = corpus(3000)

    def waste(plan: list[list[Place]]) -> float:
        real = sum(place.duration * (tokens[place.id] + 1) for batch in plan for place in batch)
        return 1 - real / sum(cost(batch, tokens) for batch in plan)

    bounded = training_plan(places, config(max_duration=100, max_lattice=1e9), 1, 1, lambda place: tokens[place.id])
    assert waste(bounded) < 0.8 * waste(training_plan(places, config(max_duration=100), 1, 1))


def test_an_utterance_beyond_the_limit_is_a_batch() -> None:
    places, tokens = corpus(40)
    plan = training_plan(places, config(max_duration=100, max_lattice=1), 1, 1, lambda place: tokens[place.id])
    assert [len(batch) for batch in plan] == [1] * 40


def test_max_utterances_holds_too() -> None:
    places, tokens = corpus(500)
    plan = training_plan(places, config(max_duration=100, max_lattice=3000, max_utterances=4), 1, 1, lambda place: tokens[place.id])
    assert max(map(len, plan)) == 4


def test_copies_count_in_every_limit() -> None:
    places, tokens = corpus(500)

    def plan(**limits: Any) -> list[list[Place]]:
        return training_plan(places, config(**limits), 1, 1, lambda place: tokens[place.id])

    assert plan(copies=2, max_duration=100) == plan(max_duration=50)
    assert plan(copies=2, max_duration=100, max_lattice=6000, max_utterances=6) == plan(max_duration=50, max_lattice=3000, max_utterances=3)


def test_the_loader_counts_tokens(tmp_path: Path) -> None:
    prepare_corpus(corpus_config(splits={"train": "train"}), table_corpus(tmp_path / "corpus"), tmp_path)
    batches = list(training_loader(
        tmp_path / "train.jsonl.gz", config(max_duration=100, max_lattice=60, perturb_speed=[0.9]), FEATURES, Letters(), seed=1, epoch=1,
    ))
    assert sum(map(len, batches)) == 16
    for batch in batches:
        assert batch.targets is not None
        assert len(batch) == 1 or len(batch) * max(batch.durations) * (batch.targets.tokens_BU.shape[1] + 1) <= 60


def test_the_largest_utterance(tmp_path: Path) -> None:
    prepare_corpus(corpus_config(splits={"train": "train"}), table_corpus(tmp_path / "corpus"), tmp_path)
    cuts = read_cuts(tmp_path / "train.jsonl.gz")
    longest = max(cuts, key=lambda cut: cut.duration)
    found = extremes(cuts, config(perturb_speed=[0.8, 1.1]), FEATURES, Letters())
    assert found.seconds == pytest.approx(longest.duration / 0.8)
    assert found.frames == FEATURES.num_frames(round(longest.num_samples / 0.8))
    assert found.tokens == max(len(cut.supervisions[0].text) for cut in cuts)
    assert extremes(cuts, config(), FEATURES, Letters(), exclude={longest.id}).seconds < longest.duration
    with pytest.raises(ValueError, match="no utterance is left"):
        extremes(cuts, config(), FEATURES, Letters(), exclude={cut.id for cut in cuts})


@pytest.mark.parametrize(("values", "message"), [
    ({"max_duration": 0}, "max_duration: a number of seconds above 0, or auto"),
    ({"max_duration": "huge"}, "max_duration"),
    ({"max_lattice": 0}, "max_lattice"),
    ({"cache": True, "shar": {"dir": "x"}}, "shar is for what does not fit"),
    ({"cache": True, "rir": {}}, "cache keeps features"),
])
def test_contradictory_config(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)
