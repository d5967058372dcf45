"""Batches: complete, the same whatever the number of workers, ranks and resumptions, padded and augmented as configured."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from asr.config import validate
from asr.data import (
    BatchConfig,
    check_targets,
    compute_features,
    count_frames,
    evaluation_loader,
    prepare_corpus,
    read_cuts,
    training_loader,
)
from asr.data.augment import Noise, perturb_volume
from asr.data.batches import duration_bins, evaluation_plan, padding, training_plan
from asr.data.loader import one_thread, waveform
from asr.features import Fbank
from asr.types import Batch
from tests.data.corpora import Letters, corpus_config, table_corpus, write_wav

ROOT = Path(__file__).resolve().parents[2]
FLY = Fbank.Config(num_mel_bins=40, stored=False)
STORED = Fbank.Config(num_mel_bins=40, stored=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loader")
    prepare_corpus(corpus_config(splits={"train": {"from": ["train", "test"]}}), table_corpus(path / "corpus", utterances=60), path)
    compute_features(path / "train.jsonl.gz", path / "fbank/train.jsonl.gz", STORED, jobs=1)
    write_wav(path / "noise/deep/hum.wav", 0.4, rate=8000)
    write_wav(path / "noise/long.wav", 4.0)
    return path


def config(**values: Any) -> BatchConfig:
    return validate(BatchConfig, {"max_duration": 5, "num_buckets": 3, "workers": 0, **values}, "test")


def batches(data: Path, features: Fbank.Config = FLY, epoch: int = 1, seed: int = 7, skip: int = 0, rank: int = 0, world: int = 1,
            **values: Any) -> list[Batch]:
    path = data / "fbank/train.jsonl.gz" if features.stored else data / "train.jsonl.gz"
    return list(training_loader(
        path, config(**values), features, Letters(), seed=seed, epoch=epoch, skip_batches=skip, rank=rank, world_size=world,
    ))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.ids == y.ids and torch.equal(x.features_BTF, y.features_BTF) and torch.equal(x.feature_lens_B, y.feature_lens_B)
        and x.texts == y.texts and x.durations == y.durations and x.targets.to_lists() == y.targets.to_lists()  # type: ignore[union-attr]
        for x, y in zip(a, b)
    )


EVERYTHING: dict[str, Any] = {"perturb_speed": [0.9, 1.1], "perturb_volume": [0.5, 2.0]}


def test_an_epoch_has_every_utterance_once(data: Path) -> None:
    found = batches(data)
    ids = [id for batch in found for id in batch.ids]
    assert sorted(ids) == [f"u{k:03d}" for k in range(60)]
    for batch in found:
        assert len(batch) == 1 or max(batch.durations) * len(batch) <= 5 + max(batch.durations)
    assert [b.ids for b in batches(data, epoch=2)] != [b.ids for b in found] != [b.ids for b in batches(data, seed=8)]
    assert all(len(batch) <= 2 for batch in batches(data, max_utterances=2))


def test_features_targets_and_padding_of_a_batch(data: Path) -> None:
    cuts = {cut.id: cut for cut in read_cuts(data / "train.jsonl.gz")}
    extract = Fbank(FLY)
    for batch in batches(data, spec_augment=None):
        assert batch.features_BTF.shape[1] == batch.feature_lens_B.max()
        for row, id in enumerate(batch.ids):
            length = int(batch.feature_lens_B[row])
            with one_thread():
                assert torch.equal(batch.features_BTF[row, :length], extract(waveform(cuts[id], 16000)))
            assert (batch.features_BTF[row, length:] == FLY.padding_value).all()
            assert batch.texts[row] == cuts[id].supervisions[0].text
            assert batch.durations[row] == cuts[id].duration
        assert batch.targets is not None
        assert batch.targets.to_lists() == [Letters().encode(text) for text in batch.texts]


@pytest.mark.parametrize("values", [{}, {**EVERYTHING, "noise": {}}])
def test_workers_change_nothing(data: Path, values: dict[str, Any]) -> None:
    if "noise" in values:
        values = {**values, "noise": {"dir": data / "noise", "probability": 0.7}}
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # a worker has one
    try:
        assert same(batches(data, workers=2, **values), batches(data, **values))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_the_global_generators_are_left_alone(data: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batches(data, workers=2)
    batches(data, **EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


def test_resumed_is_the_rest_of_the_whole(data: Path) -> None:
    whole = batches(data, **EVERYTHING)
    assert same(batches(data, skip=4, **EVERYTHING), whole[4:])
    assert batches(data, skip=len(whole), **EVERYTHING) == []


def test_copies_share_the_audio_and_the_limits_of_a_batch(data: Path) -> None:
    audio: dict[str, Any] = {"perturb_speed": [0.9, 1.1], "perturb_volume": [0.5, 2.0]}
    masked = {"copies": 2, "spec_augment": {"probability": 1.0}, **audio}
    found = batches(data, **masked)
    assert sorted(id for batch in found for id in batch.ids[: batch.utterances]) == [f"u{k:03d}" for k in range(60)]
    for batch in found:
        half = batch.utterances
        assert batch.copies == 2 and len(batch) == len(batch.features_BTF) == 2 * half
        assert batch.ids[:half] == batch.ids[half:] and batch.targets.to_lists()[:half] == batch.targets.to_lists()[half:]
        assert torch.equal(batch.feature_lens_B[:half], batch.feature_lens_B[half:])
        assert not torch.equal(batch.features_BTF[:half], batch.features_BTF[half:])
        assert half == 1 or max(batch.durations) * len(batch) <= 5 + 2 * max(batch.durations)
    assert same(batches(data, skip=3, **masked), found[3:])
    for batch in batches(data, copies=2, spec_augment=None, **audio):
        assert torch.equal(batch.features_BTF[: batch.utterances], batch.features_BTF[batch.utterances:])
    assert all(len(batch) <= 4 for batch in batches(data, copies=2, max_utterances=4))


def test_skipped_batches_are_not_read(data: Path, tmp_path: Path) -> None:
    corpus = table_corpus(tmp_path / "corpus", utterances=30)
    prepare_corpus(corpus_config(splits={"train": {"from": ["train", "test"]}}), corpus, tmp_path)
    whole = batches(tmp_path)
    for batch in whole[:5]:
        for path in (path for id in batch.ids for path in corpus.rglob(f"{id}.wav")):
            path.unlink()
    assert same(batches(tmp_path, skip=5), whole[5:])


def test_ranks_share_one_sequence(data: Path) -> None:
    whole = batches(data)
    assert any(len(whole) % world for world in (2, 5)), "some rank has one batch less"
    for world in (2, 5):
        for rank in range(world):
            assert same(batches(data, rank=rank, world=world), whole[rank::world])
            assert same(batches(data, rank=rank, world=world, skip=2 * world), whole[2 * world + rank::world])


def test_length_and_padding_are_known(data: Path) -> None:
    loader = training_loader(data / "train.jsonl.gz", config(), FLY, Letters(), seed=7, epoch=1, skip_batches=3)
    whole = batches(data)
    assert (loader.num_batches, len(loader)) == (len(whole), len(whole) - 3)
    waste = 1 - sum(sum(b.durations) for b in whole) / sum(max(b.durations) * len(b) for b in whole)
    assert abs(loader.padding - waste) < 1e-9
    assert same(list(loader), list(loader))
    assert padding(training_plan(read_cuts(data / "train.jsonl.gz"), config(num_buckets=1), 7, 1)) > 1.5 * loader.padding


def test_stored_and_cached_features(data: Path) -> None:
    fresh, stored = batches(data, spec_augment=None), batches(data, STORED, spec_augment=None)
    assert all(a.ids == b.ids and (a.features_BTF - b.features_BTF).abs().max() <= 0.008 for a, b in zip(fresh, stored))
    assert same(batches(data, STORED, cache=True), batches(data, STORED))
    assert same(batches(data, FLY, cache=True, workers=2), batches(data, FLY))


def test_cache_follows_the_file(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    for utterances in (6, 9):
        corpus = table_corpus(tmp_path / "corpus", utterances)
        prepare_corpus(corpus_config(splits={"train": {"from": ["train", "test"]}}), corpus, tmp_path)
        loader = training_loader(path, config(cache=True), FLY, Letters(), seed=1, epoch=1)
        assert sum(len(batch) for batch in loader) == utterances


def test_speed(data: Path) -> None:
    cuts = {cut.id: cut for cut in read_cuts(data / "train.jsonl.gz")}
    factors = {id: duration / cuts[id].duration for batch in batches(data, perturb_speed=[0.9, 1.1])
               for id, duration in zip(batch.ids, batch.durations)}
    assert len(factors) == 60
    near = {round(factor, 2) for factor in factors.values()}
    assert near == {1.0, 0.91, 1.11}
    plain = {id: round(duration / cuts[id].duration, 2) for batch in batches(data, perturb_speed=[0.9, 1.1], epoch=2)
             for id, duration in zip(batch.ids, batch.durations)}
    assert plain != {id: round(factor, 2) for id, factor in factors.items()}


def test_noise_has_the_ratio_asked_for(data: Path) -> None:
    import random

    speech = torch.from_numpy(soundfile.read(data / "corpus/wav/s0/u000.wav", dtype="float32")[0])
    noise = Noise(Noise.Config(dir=data / "noise", probability=1.0, snr=(10.0, 10.0)), 16000)
    assert len(noise.recordings) == 2
    heard = set()
    for seed in range(8):
        mixture = noise(speech, random.Random(seed))
        added = mixture - speech
        heard.add(round(float(added.abs().sum()), 3))
        assert abs(10 * torch.log10(speech.square().mean() / added.square().mean()) - 10) < 0.01
    assert len(heard) > 2
    assert torch.equal(Noise(Noise.Config(dir=data / "noise", probability=0.0), 16000)(speech, random.Random(0)), speech)
    assert torch.equal(noise(torch.zeros(99), random.Random(0)), torch.zeros(99))
    with pytest.raises(ValueError, match="no audio files"):
        Noise(Noise.Config(dir=data / "fbank"), 16000)


def test_volume() -> None:
    import random

    gains = [float(perturb_volume(torch.ones(1), (0.25, 4.0), random.Random(seed))) for seed in range(200)]
    assert min(gains) >= 0.25 and max(gains) <= 4.0
    assert 70 < sum(gain < 1 for gain in gains) < 130


def test_evaluation_is_complete_and_ordered(data: Path) -> None:
    found = list(evaluation_loader(data / "train.jsonl.gz", FLY, max_duration=6.0, workers=0))
    durations = [duration for batch in found for duration in batch.durations]
    assert durations == sorted(durations, reverse=True) and len(durations) == 60
    assert all(len(batch) * max(batch.durations) <= 6.0 for batch in found)
    assert all(batch.targets is None for batch in found)
    again = list(evaluation_loader(data / "train.jsonl.gz", FLY, Letters(), max_duration=6.0, workers=2))
    assert all(a.ids == b.ids and torch.equal(a.features_BTF, b.features_BTF) for a, b in zip(found, again))
    assert all(batch.targets is not None for batch in again)


def test_an_utterance_longer_than_a_batch_is_one(data: Path) -> None:
    cuts = read_cuts(data / "train.jsonl.gz")
    assert [len(batch) for batch in evaluation_plan(cuts, 0.1)] == [1] * 60
    assert sum(len(batch) for batch in training_plan(cuts, config(max_duration=0.1), 1, 1)) == 60


def test_buckets_hold_several_batches(data: Path) -> None:
    cuts = read_cuts(data / "train.jsonl.gz")
    assert len(duration_bins(cuts, config(max_duration=1, num_buckets=5))) == 4
    assert duration_bins(cuts, config(max_duration=1000)) == [max(cut.duration for cut in cuts) + 1]
    assert len(batches(data, max_duration=1000)) == 1


@pytest.mark.parametrize("values, message", [
    ({"cache": True, "perturb_speed": [0.9]}, "cache keeps features"),
    ({"perturb_speed": [3]}, "between 0.5 and 2"),
    ({"perturb_volume": [2, 1]}, "lowest factor comes first"),
    ({"max_duration": 0}, "max_duration"),
])
def test_contradictory_config(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_errors_name_the_utterance_from_workers_too(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set features.stored: false"):
        batches(data, STORED, perturb_speed=[0.9])
    for workers in (0, 2):
        with pytest.raises(ValueError, match="^utterance 'u...' has no stored features: run the stage of features"):
            list(training_loader(data / "train.jsonl.gz", config(workers=workers), STORED, Letters(), seed=1, epoch=1))
        with pytest.raises(ValueError, match="^utterance 'u...' has a sample rate of 16000 Hz"):
            batches(data, Fbank.Config(sample_rate=8000, stored=False), workers=workers)
        with pytest.raises(ValueError, match="40 bins, the config asks for 80"):
            batches(data, Fbank.Config(num_mel_bins=80), workers=workers)


def test_targets_that_cannot_be_trained_on(data: Path) -> None:
    cuts = read_cuts(data / "train.jsonl.gz")
    cuts[0].supervisions[0].text = "naïve"
    cuts[1].supervisions[0].text = "a" * 26
    cuts[2].supervisions[0].text = "abcdefghij" * 5
    feature_frames = count_frames(data / "train.jsonl.gz", FLY)
    frames = {cut.id: FLY.num_frames(cut.num_samples) for cut in cuts[:3]}
    dropped = check_targets(cuts[:3], "train", feature_frames, Letters(), encoder_frames=lambda _: 51)
    assert [(d.id, d.reason.partition(":")[0]) for d in dropped] == [("u000", "unknown characters")]
    assert "ï" in dropped[0].reason
    dropped = check_targets(cuts[1:3], "train", feature_frames, Letters(), encoder_frames=lambda _: 50)
    assert [d.id for d in dropped] == ["u001"] and "50 encoder frames, 51 needed" in dropped[0].reason
    seen: list[int] = []
    check_targets(cuts[1:3], "train", feature_frames, Letters(), encoder_frames=lambda t: seen.append(t) or t // 4)  # type: ignore[func-returns-value]
    assert seen == [frames["u001"], frames["u002"]]
    left = training_loader(data / "train.jsonl.gz", config(), FLY, Letters(), seed=1, epoch=1, exclude={"u001"})
    assert sorted(id for batch in left for id in batch.ids) == [f"u{k:03d}" for k in range(60) if k != 1]


ENDLESS = """
import sys
from pathlib import Path
from asr.data import BatchConfig, training_loader
from asr.features import Fbank
from tests.data.corpora import Letters
config = BatchConfig(max_duration=5, workers=2)
while True:
    for batch in training_loader(Path(sys.argv[1]), config, Fbank.Config(num_mel_bins=40, stored=False), Letters(), seed=1, epoch=1):
        print(len(batch), flush=True)
"""


def test_interrupt_ends_the_workers(data: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(data / "train.jsonl.gz")], env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline().strip().isdigit()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("workers are still alive")


def test_importing_the_package_does_not_import_lhotse() -> None:
    code = "import sys, asr.data; sys.exit('lhotse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
