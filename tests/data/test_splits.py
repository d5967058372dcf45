"""Splits of an experiment out of those of a corpus."""
from __future__ import annotations

from pathlib import Path

import pytest

from asr.config import dump_config, load_config
from asr.data import CorpusConfig, prepare_corpus, read_cuts
from tests.data.corpora import corpus_config, table_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table_corpus(tmp_path_factory.mktemp("corpus"), utterances=60, speakers=12)


def prepared(corpus: Path, out: Path, **splits: object) -> dict[str, dict[str, str]]:
    """{split: {id: speaker}}"""
    prepare_corpus(corpus_config(splits=splits), corpus, out)
    return {name: {cut.id: cut.supervisions[0].speaker for cut in read_cuts(out / f"{name}.jsonl.gz")} for name in splits}


def test_held_out_by_speaker(corpus: Path, tmp_path: Path) -> None:
    splits = prepared(corpus, tmp_path, train="train", dev={"from": "train", "fraction": 0.2}, test="test")
    assert len(splits["train"]) + len(splits["dev"]) == 40
    assert not set(splits["train"].values()) & set(splits["dev"].values())
    assert 8 <= len(splits["dev"]) < 8 + 5
    assert len(splits["test"]) == 20


def test_held_out_by_utterance_and_seed(corpus: Path, tmp_path: Path) -> None:
    def dev(seed: int) -> list[str]:
        held_out = {"from": "train", "fraction": 0.1, "by": "utterance", "seed": seed}
        return list(prepared(corpus, tmp_path, train="train", dev=held_out)["dev"])

    assert len(dev(1)) == 4
    assert dev(1) == dev(1) == sorted(dev(1))
    assert dev(1) != dev(2)


def test_two_held_out_splits_share_nothing(corpus: Path, tmp_path: Path) -> None:
    both = ["train", "test"]
    splits = prepared(corpus, tmp_path, train={"from": both}, dev={"from": both, "fraction": 0.2}, test={"from": both, "fraction": 0.2})
    speakers = [set(split.values()) for split in splits.values()]
    assert sum(len(s) for s in speakers) == 12 and len(set.union(*speakers)) == 12
    assert sum(len(split) for split in splits.values()) == 60


def test_conditions(corpus: Path, tmp_path: Path) -> None:
    splits = prepared(
        corpus, tmp_path, old={"from": "test", "where": {"age": {"min": 55}}}, women={"from": "test", "where": {"gender": "f"}},
        young_men={"from": "train", "where": {"age": {"below": 20}, "gender": "m"}},
        two={"from": "train", "where": {"speaker": {"one_of": ["s1", "s3"]}}}, long={"from": "train", "where": {"duration": {"min": 1.5}}},
    )
    assert set(splits["old"].values()) == {"s9", "s10", "s11"}
    assert set(splits["women"].values()) == {"s9", "s11"}
    assert set(splits["young_men"].values()) == {"s0"}
    assert set(splits["two"].values()) == {"s1", "s3"}
    assert 0 < len(splits["long"]) < 40


def test_range(corpus: Path, tmp_path: Path) -> None:
    splits = prepared(corpus, tmp_path, a={"from": ["test", "train"], "range": [0, 50]}, b={"from": ["test", "train"], "range": [50, 60]})
    assert list(splits["a"]) == [f"u{k:03d}" for k in range(50)]
    assert list(splits["b"]) == [f"u{k:03d}" for k in range(50, 60)]


@pytest.mark.parametrize("splits, message", [
    ({"x": {"from": "train", "where": {"agee": {"min": 3}}}}, "no 'agee'; its fields are age, duration"),
    ({"x": {"from": "train", "where": {"age": {"min": 99}}}}, "split 'x' is empty"),
    ({"x": {"from": "train", "where": {"speaker": "s1"}, "fraction": 0.5}}, "1 speaker.*by: utterance"),
    ({"x": {"from": "train", "fraction": 1.5}}, "fraction"),
    ({"x": {"from": []}}, "splits.x.from"),
    ({}, "splits"),
])
def test_wrong_splits(corpus: Path, tmp_path: Path, splits: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepared(corpus, tmp_path, **splits)


def test_the_resolved_config_is_read_back(tmp_path: Path) -> None:
    splits = {"train": "train", "dev": {"from": "train", "fraction": 0.1}, "old": {"from": "test", "where": {"age": {"min": 9}}}}
    config = corpus_config(splits=splits)
    dump_config(config, tmp_path / "config.yaml")
    assert load_config(CorpusConfig, tmp_path / "config.yaml") == config


def test_misspelt_key_is_answered_with_the_one_written_in_files() -> None:
    with pytest.raises(ValueError, match="unknown key 'splits.train.form'; did you mean 'from'"):
        corpus_config(splits={"train": {"from": "train", "form": "x"}})
