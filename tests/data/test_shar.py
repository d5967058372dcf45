"""Shards: the same utterances as the manifest, and one sequence of batches whatever the workers, ranks and resumptions."""
from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.config import validate
from asr.data import BatchConfig, compute_features, evaluation_loader, prepare_corpus, read_cuts, training_cuts, training_loader, write_shar
from asr.data.manifests import json_lines
from asr.data.shar import SharPlan
from asr.features import Fbank
from asr.types import Batch
from tests.data.corpora import Letters, corpus_config, table_corpus
from tests.data.test_loader import same
from tests.data.test_programs import run

FLY = Fbank.Config(num_mel_bins=40, stored=False)
STORED = Fbank.Config(num_mel_bins=40, stored=True)
UTTERANCES, SHARD, WINDOW = 60, 8, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shar")
    corpus = table_corpus(path / "corpus", UTTERANCES)
    prepare_corpus(corpus_config(splits={"train": {"from": ["train", "test"]}}), corpus, path)
    compute_features(path / "train.jsonl.gz", path / "fbank/train.jsonl.gz", STORED, jobs=1)
    write_shar(path / "fbank/train.jsonl.gz", path / "stored/train", STORED, shard_size=SHARD, seed=1, jobs=2)
    write_shar(path / "train.jsonl.gz", path / "audio/train", FLY, shard_size=SHARD, seed=1, jobs=1)
    return path


def directory(data: Path, features: Fbank.Config) -> Path:
    return data / ("stored" if features.stored else "audio") / "train"


def config(shar: Path, **values: Any) -> BatchConfig:
    shards = {"dir": shar, "window": WINDOW}
    return validate(BatchConfig, {"max_duration": 5, "num_buckets": 2, "workers": 0, "shar": shards, **values}, "test")


def batches(data: Path, features: Fbank.Config = STORED, epoch: int = 1, skip: int = 0, rank: int = 0, world: int = 1,
            exclude: tuple[str, ...] = (), **values: Any) -> list[Batch]:
    return list(training_loader(
        Path("unused"), config(directory(data, features), **values), features, Letters(), seed=7, epoch=epoch, skip_batches=skip,
        rank=rank, world_size=world, exclude=exclude,
    ))


@pytest.mark.parametrize("features", [STORED, FLY])
def test_every_utterance_once_as_the_manifest_has_it(data: Path, features: Fbank.Config) -> None:
    path = data / ("fbank/train.jsonl.gz" if features.stored else "train.jsonl.gz")
    expected = {
        id: (batch.features_BTF[row, : batch.feature_lens_B[row]], batch.texts[row], batch.durations[row])
        for batch in evaluation_loader(path, features) for row, id in enumerate(batch.ids)
    }
    seen = []
    for batch in batches(data, features, spec_augment=None):
        for row, id in enumerate(batch.ids):
            matrix, text, duration = expected[id]
            assert torch.equal(batch.features_BTF[row, : batch.feature_lens_B[row]], matrix)
            assert (batch.texts[row], batch.durations[row]) == (text, duration)
            seen.append(id)
        assert batch.targets is not None and batch.targets.to_lists() == [Letters().encode(text) for text in batch.texts]
    assert sorted(seen) == sorted(expected) and len(seen) == UTTERANCES


def test_batches_are_bucketed_and_shuffled(data: Path) -> None:
    first, second = batches(data), batches(data, epoch=2)
    assert [b.ids for b in first] != [b.ids for b in second]
    assert all(max(b.durations) * len(b) <= 5 + max(b.durations) for b in first)
    loader = training_loader(Path("unused"), config(directory(data, STORED)), STORED, Letters(), seed=7, epoch=1)
    assert loader.num_batches == len(loader) == len(first)
    waste = 1 - sum(sum(b.durations) for b in first) / sum(max(b.durations) * len(b) for b in first)
    assert abs(loader.padding - waste) < 1e-9


AUGMENTED: dict[str, Any] = {"perturb_speed": [0.9, 1.1], "perturb_volume": [0.5, 2.0], "rir": {}}


def test_workers_ranks_and_resuming_change_nothing(data: Path) -> None:
    whole = batches(data, FLY, **AUGMENTED)
    assert same(batches(data, FLY, workers=2, **AUGMENTED), whole)
    assert same(batches(data, FLY, skip=7, **AUGMENTED), whole[7:])
    for rank in range(2):
        assert same(batches(data, FLY, rank=rank, world=2, skip=4, **AUGMENTED), whole[4 + rank::2])
    speeds = {round(b.durations[row], 3) for b in whole for row in range(len(b))}
    assert len(speeds) > 30


def test_lattices_are_bounded(data: Path) -> None:
    found = batches(data, max_lattice=60)
    assert sum(map(len, found)) == UTTERANCES
    for batch in found:
        assert batch.targets is not None
        assert len(batch) == 1 or len(batch) * max(batch.durations) * (batch.targets.tokens_BU.shape[1] + 1) <= 60


def test_utterances_are_left_out(data: Path) -> None:
    left = {id for batch in batches(data, exclude=("u001", "u030")) for id in batch.ids}
    assert {f"u{k:03d}" for k in range(UTTERANCES)} - left == {"u001", "u030"}


def test_few_shards_are_open_and_earlier_ones_are_not_read(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "train"
    write_shar(data / "fbank/train.jsonl.gz", copy, STORED, shard_size=SHARD, seed=1, jobs=1)
    setting = config(copy)
    assert setting.shar is not None
    plan = SharPlan(setting.shar, setting, STORED, None, seed=7, epoch=1)
    ids = [[cut.id for cut in plan[index]] for index in range(len(plan))]
    assert len(plan._shards) == 8 and len(plan._open) <= 2 * WINDOW
    for shard in plan._windows[0]:
        plan._shards[shard].data.write_bytes(b"")  # of the first window, which is done
    again = SharPlan(setting.shar, setting, STORED, None, seed=7, epoch=1)
    done = again._ends[0]
    assert [[cut.id for cut in again[index]] for index in range(done, len(again))] == ids[done:]
    with pytest.raises(ValueError, match=r"features\.0.*write the shards again"):
        again[0]


def test_lhotse_reads_them(data: Path) -> None:
    from lhotse import CutSet

    there = {cut.id: cut for cut in read_cuts(data / "fbank/train.jsonl.gz")}
    found = list(CutSet.from_shar(in_dir=data / "stored/train"))
    assert sorted(cut.id for cut in found) == sorted(there)
    assert all((cut.load_features() == there[cut.id].load_features()).all() for cut in found)
    assert [cut.id for cut in training_cuts(Path("unused"), config(data / "stored/train"))] == [cut.id for cut in found]
    assert [cut.id for cut in found] != sorted(there), "shards are random samples"


def test_an_interrupted_export_goes_on(data: Path, tmp_path: Path) -> None:
    corpus = table_corpus(tmp_path / "corpus", UTTERANCES)
    prepare_corpus(corpus_config(splits={"train": {"from": ["train", "test"]}}), corpus, tmp_path)
    output = tmp_path / "audio/train"
    missing = next(json_lines(data / "audio/train/cuts.000003.jsonl.gz"))["id"]
    audio = next(corpus.rglob(f"{missing}.wav"))
    content = audio.read_bytes()
    audio.unlink()
    with pytest.raises(ValueError, match=f"utterance '{missing}': cannot be read"):
        write_shar(tmp_path / "train.jsonl.gz", output, FLY, shard_size=SHARD, seed=1, jobs=1)
    assert not output.exists()
    finished = {path.name: path.stat().st_mtime_ns for path in output.parent.glob(".train.*.part/*.tar")}
    assert len(finished) == 3
    audio.write_bytes(content)
    write_shar(tmp_path / "train.jsonl.gz", output, FLY, shard_size=SHARD, seed=1, jobs=1)
    assert {name: (output / name).stat().st_mtime_ns for name in finished} == finished
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in (data / "audio/train").iterdir())
    assert [path.name for path in output.parent.iterdir()] == ["train"]


def test_what_is_wrong_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no shards .* local/export_shar.py writes them"):
        batches(tmp_path)
    with pytest.raises(ValueError, match=r"recording\.000000\.tar: no such file; .*features.stored: true"):
        list(training_loader(Path("unused"), config(data / "stored/train"), FLY, Letters(), seed=7, epoch=1))
    write_shar(data / "fbank/train.jsonl.gz", tmp_path / "stored/train", STORED, shard_size=100, seed=1, jobs=1)
    archive = tmp_path / "stored/train/features.000000.tar"
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    archive.write_bytes(archive.read_bytes()[: members[-4].offset])
    with pytest.raises(ValueError, match="entries for 60 cuts"):
        batches(tmp_path)


def test_the_program(data: Path, tmp_path: Path) -> None:
    corpus = table_corpus(tmp_path / "corpus", utterances=12)
    assert run("prepare_manifests", tmp_path, "--corpus-dir", corpus) == 0
    assert run("compute_features", tmp_path, "--jobs", "1") == 0
    assert run("export_shar", tmp_path, "--jobs", "1", "--shard-size", "4") == 0
    output = tmp_path / "data/shar_fbank_80/train"
    names = sorted(path.name for path in output.iterdir())
    assert names == ["cuts.000000.jsonl.gz", "cuts.000001.jsonl.gz", "features.000000.tar", "features.000001.tar"]
    before = [path.stat().st_mtime_ns for path in sorted(output.iterdir())]
    assert run("export_shar", tmp_path, "--jobs", "1", "--shard-size", "4") == 0
    assert [path.stat().st_mtime_ns for path in sorted(output.iterdir())] == before
    assert run("export_shar", tmp_path, "--jobs", "1", "--set", "features.stored=false") == 0
    assert sorted(path.name for path in (tmp_path / "data/shar_audio/train").iterdir()) == ["cuts.000000.jsonl.gz", "recording.000000.tar"]
