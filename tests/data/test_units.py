"""Units of real speech from audio to batches: compact, never of two extractors, and with the time of each."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.config import validate
from asr.data import (
    BatchConfig,
    compute_features,
    count_frames,
    evaluation_loader,
    prepare_corpus,
    prepare_extractor,
    prepare_subwords,
    read_cuts,
    training_loader,
    write_shar,
)
from asr.data.batches import SharConfig
from asr.data.loader import EXTRACTOR, open_units, stored_features, waveform
from asr.features import Fbank, Units
from tests.data.corpora import Letters, corpus_config

RATE = 8000
KMEANS = {"type": "kmeans", "source": {"type": "fbank", "num_mel_bins": 20}, "clusters": 50}


def config(extractor: dict[str, Any] = KMEANS, **values: Any) -> Units.Config:
    return validate(Units.Config, {"type": "units", "sample_rate": RATE, "extractor": extractor, **values}, "test")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """Ten utterances of yesno, six seconds each."""
    path = tmp_path_factory.mktemp("yesno")
    splits = {"train": {"from": ["train", "test"], "range": [0, 10]}}
    corpus = corpus_config(source={"type": "lhotse", "recipe": "yesno"}, splits=splits, sample_rate=RATE, text={"case": "lower"})
    prepare_corpus(corpus, shared / "corpora/yesno", path)
    return path / "train.jsonl.gz"


@pytest.fixture(scope="module")
def stored(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of units, with subwords of them without repetitions."""
    return extract(manifest, tmp_path_factory.mktemp("units"))


def extract(manifest: Path, directory: Path, features: Units.Config | None = None) -> Path:
    features = features or config(deduplicate=True, bpe=80)
    prepare_extractor(manifest, directory / EXTRACTOR, features)
    compute_features(manifest, directory / "train.jsonl.gz", features, jobs=2, shard_seconds=15)
    if features.bpe is not None:
        prepare_subwords(directory / "train.jsonl.gz", features)
    return directory / "train.jsonl.gz"


def test_stored_are_the_audio_s_units(stored: Path) -> None:
    units = open_units(config(), stored)
    assert units is not None
    for cut in read_cuts(stored):
        found_TQ = stored_features(cut, config(), units)
        assert torch.equal(found_TQ, units(waveform(cut, RATE))) and found_TQ.dtype == torch.int32
        assert cut.num_frames == len(found_TQ) and cut.num_features == 1 and cut.frame_shift == 0.01
    cut = read_cuts(stored)[0]
    assert np.array_equal(cut.truncate(offset=1, duration=0.5).load_features(), cut.load_features()[100:150])


def test_one_fiftieth_of_fbank(manifest: Path, stored: Path, tmp_path: Path) -> None:
    compute_features(manifest, tmp_path / "train.jsonl.gz", Fbank.Config(sample_rate=RATE), jobs=1)
    fbank, units = (sum(path.stat().st_size for path in archives) for archives in (tmp_path.rglob("*.f16"), stored.parent.rglob("*.units")))
    assert fbank >= 50 * units


def test_interrupted_with_one_extractor_and_gone_on_with_another(manifest: Path, stored: Path, tmp_path: Path) -> None:
    """Everything is of the second one in the end; before that, what there is of the first is refused."""
    first, second = config(), config({**KMEANS, "seed": 1})
    prepare_extractor(manifest, tmp_path / EXTRACTOR, first)
    compute_features(manifest, tmp_path / "train.jsonl.gz", first, jobs=1, shard_seconds=15)
    shards = sorted((tmp_path / "train").glob("*.key"))
    shards[-1].unlink()  # as if killed before the last was whole
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.units")}
    compute_features(manifest, tmp_path / "train.jsonl.gz", first, jobs=1, shard_seconds=15)
    redone = [path.stem for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert redone == [shards[-1].stem] and len(shards) > 3
    prepare_extractor(manifest, tmp_path / EXTRACTOR, second)
    with pytest.raises(ValueError, match="its units are of another extractor .*: run the stage of features again"):
        list(evaluation_loader(tmp_path / "train.jsonl.gz", second))
    compute_features(manifest, tmp_path / "train.jsonl.gz", second, jobs=1, shard_seconds=15)
    units = open_units(second, tmp_path / "train.jsonl.gz")
    assert units is not None
    assert {cut.features.type for cut in read_cuts(tmp_path / "train.jsonl.gz")} == {units.kind}
    for cut in read_cuts(tmp_path / "train.jsonl.gz"):
        assert torch.equal(stored_features(cut, second, units), units(waveform(cut, RATE)))


@pytest.mark.parametrize("values", [{}, {"deduplicate": True}, {"deduplicate": True, "bpe": 80}])
def test_batches(stored: Path, values: dict[str, Any]) -> None:
    features = config(**values)
    units, cuts = open_units(features, stored), {cut.id: cut for cut in read_cuts(stored)}
    assert units is not None
    lens = []
    for batch in evaluation_loader(stored, features, max_duration=30):
        assert batch.features_BTF.dtype == torch.int64 and batch.features_BTF.shape[2] == features.codebooks == 1
        assert (batch.unit_starts is None) == (values == {})
        for row, (id, length) in enumerate(zip(batch.ids, batch.feature_lens_B.tolist())):
            view = units.view(stored_features(cuts[id], features, units))
            assert torch.equal(batch.features_BTF[row, :length], view.units_TQ) and bool((batch.features_BTF[row, length:] == -1).all())
            assert view.units_TQ.min() >= 0 and view.units_TQ.max() < features.vocabulary
            assert count_frames(stored, features)(cuts[id]) == length
            if batch.unit_starts is not None:
                assert torch.equal(batch.unit_starts[row], view.starts_T) and int(view.starts_T[-1]) == cuts[id].num_frames
            lens.append(length)
    assert sum(lens) == sum(cut.num_frames for cut in cuts.values()) if not values else sum(lens) < 0.9 * sum(
        cut.num_frames for cut in cuts.values())


def test_shards_and_cache_hold_the_same(stored: Path, tmp_path: Path) -> None:
    features = config(deduplicate=True)
    write_shar(stored, tmp_path / "shar", features, shard_size=4, seed=0, jobs=1)
    plain = {"max_duration": 30, "workers": 0, "spec_augment": None}
    found = []
    for values in ({}, {"cache": True}, {"shar": SharConfig(dir=tmp_path / "shar")}):
        loader = training_loader(stored, BatchConfig(**plain, **values), features, Letters(), seed=0, epoch=1)
        found.append({id: batch.features_BTF[row, : int(batch.feature_lens_B[row])].flatten().tolist()
                      for batch in loader for row, id in enumerate(batch.ids)})
    assert found[0] == found[1] == found[2] and len(found[0]) == 10


def test_batches_are_counted_in_what_the_model_reads(stored: Path) -> None:
    """Utterances of equal length in seconds differ in units; the corpus keeps its length."""
    features = config(deduplicate=True, bpe=80)
    limits = BatchConfig(max_duration=20, workers=0, spec_augment=None)
    loader = training_loader(stored, limits, features, Letters(), seed=0, epoch=0)
    batches = list(loader)
    lens = {id: int(length) for batch in batches for id, length in zip(batch.ids, batch.feature_lens_B)}
    seconds_per_unit = sum(cut.duration for cut in read_cuts(stored)) / sum(lens.values())
    assert len(lens) == 10 and len(set(lens.values())) > 5
    assert all(len(batch) == 1 or batch.features_BTF[..., 0].numel() * seconds_per_unit <= 20.001 for batch in batches)
    padded = sum(batch.features_BTF[..., 0].numel() for batch in batches)
    assert loader.padding == pytest.approx(1 - sum(lens.values()) / padded)


def test_silence_is_one_unit_without_repetitions(stored: Path) -> None:
    units = open_units(config(deduplicate=True), stored)
    assert units is not None
    view = units.view(units(torch.zeros(RATE)))
    assert len(view.units_TQ) == 1 and view.starts_T.tolist() == [0, 100]


def test_damaged_or_wrong_archives_are_named(manifest: Path, tmp_path: Path) -> None:
    stored = extract(manifest, tmp_path, config())
    cut, units = read_cuts(stored)[-1], open_units(config(), stored)
    archive = Path(cut.features.storage_path)
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"\xff")
    with pytest.raises(ValueError, match=f"'{cut.id}': unit 255 is not one of the vocabulary of 50"):
        stored_features(cut, config(), units)
    several = config({**KMEANS, "codebooks": 2})
    with pytest.raises(ValueError, match="have 1 codebooks, the config asks for 2"):
        stored_features(cut, several, units)
    archive.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="ends within a matrix"):
        stored_features(cut, config(), units)
    with pytest.raises(ValueError, match="sample rate of 8000 Hz and features.sample_rate is 16000"):
        prepare_extractor(manifest, tmp_path / "other", config(sample_rate=16000))


def test_large_vocabularies_take_two_bytes(tmp_path: Path) -> None:
    from asr.data.archive import UnitReader, UnitWriter

    values = [np.array([[0, 255], [3, 4]]), np.array([[256, 65535]])]
    with UnitWriter(tmp_path / "a.units") as writer:
        keys = [writer.write("", value) for value in values]
    assert keys == ["0,2,2,1", "4,1,2,2"] and (tmp_path / "a.units").stat().st_size == 8
    for key, value in zip(keys, values):
        assert np.array_equal(UnitReader(tmp_path / "a.units").read(key), value)
