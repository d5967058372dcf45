"""Units beside the features: the right ones of the right neighbours, whatever the order, and at the right time."""
from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.features import Features
from torch import Tensor

from asr.config import validate
from asr.data import BatchConfig, Beside, evaluation_loader, training_loader, write_cuts
from asr.data.archive import Float16Writer
from asr.features import Fbank
from asr.types import UnitSpace
from tests.data.corpora import Letters

FLY = Fbank.Config(num_mel_bins=20, stored=False)
SPACE = UnitSpace(codebooks=2, vocabulary=90)
SHIFT = 0.04
LENGTHS = [[0.48, 0.88, 0.72], [0.6], [0.8, 0.4]]
"""Seconds of the utterances of each recording, in the order they are spoken."""


def load(cut: Any) -> Tensor:
    return torch.from_numpy(cut.load_features()).int()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterance n of recording r has the units (10 r + n, frame). In the manifest they stand in another order than they were spoken in."""
    path = tmp_path_factory.mktemp("beside")
    cuts = []
    with Float16Writer(path / "units.f16") as writer:
        for r, lengths in enumerate(LENGTHS):
            wav = path / f"r{r}.wav"
            soundfile.write(wav, np.random.default_rng(r).normal(0, 0.1, round(16000 * sum(lengths))), 16000)
            recording, start = Recording.from_file(wav), 0.0
            for n, seconds in enumerate(lengths):
                frames = round(seconds / SHIFT)
                key = writer.write("", np.stack([np.full(frames, 10 * r + n), np.arange(frames)], axis=1))
                id = f"{'zya'[n]}{r}"
                cut = MonoCut(id, round(start, 3), seconds, 0, recording=recording,
                              supervisions=[SupervisionSegment(id, recording.id, 0.0, seconds, text="a b")])
                cut.features = Features(
                    type="units", num_frames=frames, num_features=2, frame_shift=SHIFT, sampling_rate=16000, start=cut.start,
                    duration=seconds, storage_type=writer.name, storage_path=str(path / "units.f16"), storage_key=key,
                    recording_id=recording.id, channels=0,
                )
                cuts.append(cut)
                start += seconds
    write_cuts(path / "train.jsonl.gz", sorted(cuts, key=lambda cut: cut.id))
    return path


def beside(data: Path, **values: Any) -> Beside:
    return Beside(data / "train.jsonl.gz", load, SPACE, **values)


def batches(data: Path, units: Beside | None, epoch: int = 0, features: Any = FLY, **values: Any) -> list[Any]:
    config = validate(BatchConfig, {"max_duration": 2, "workers": 0, "spec_augment": None, **values}, "test")
    return list(training_loader(data / "train.jsonl.gz", config, features, Letters(), seed=3, epoch=epoch, beside=units))


def spoken(row_TQ: Tensor) -> list[int]:
    """Which utterance a row of units is of; nothing for padding."""
    return row_TQ[row_TQ[:, 0] >= 0, 0].unique().tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_neighbours_are_those_of_the_recording_in_every_order(data: Path, workers: int) -> None:
    expected = {"z0": ([], [1]), "y0": ([0], [2]), "a0": ([1], []), "z1": ([], []), "z2": ([], [21]), "y2": ([20], [])}
    for epoch in range(3):
        found = {}
        for batch in batches(data, beside(data, past=True, future=True), epoch, workers=workers):
            for row, id in enumerate(batch.ids):
                found[id] = spoken(batch.before_BTQ[row]), spoken(batch.after_BTQ[row])
        assert found == expected
    only_past = batches(data, beside(data, past=True))[0]
    assert only_past.after_BTQ is None and only_past.targets.codes_BTQ is None
    kept = [batch.ids for batch in evaluation_loader(data / "train.jsonl.gz", FLY, beside=beside(data, future=True))]
    assert sum(map(len, kept)) == 6


def test_neighbours_that_are_left_out_of_training_are_still_heard(data: Path) -> None:
    config = validate(BatchConfig, {"workers": 0}, "test")
    loader = training_loader(data / "train.jsonl.gz", config, FLY, Letters(), seed=3, epoch=0, exclude={"y0"},
                             beside=beside(data, past=True))
    batch, = loader
    assert spoken(batch.before_BTQ[batch.ids.index("a0")]) == [1]


def test_codes_are_targets(data: Path) -> None:
    for batch in batches(data, beside(data, codes=True)):
        assert batch.before_BTQ is None
        for row, seconds in enumerate(batch.durations):
            assert batch.targets.codes_BTQ.dtype == torch.int64
            codes_TQ, frames = batch.targets.codes_BTQ[row], round(seconds / SHIFT)
            assert codes_TQ[:frames, 1].tolist() == list(range(frames)) and (codes_TQ[frames:] == -1).all()


def test_units_stand_beside_the_frames_of_their_time(data: Path) -> None:
    plain = {id: batch.features_BTF[row] for batch in batches(data, None) for row, id in enumerate(batch.ids)}
    for batch in batches(data, beside(data, input=0.01 / SHIFT)):
        for row, (id, length) in enumerate(zip(batch.ids, batch.feature_lens_B.tolist())):
            numbers_TC, units_TQ = batch.features_BTF[row, :length].split((20, 2), dim=1)
            assert torch.equal(numbers_TC, plain[id][:length])
            frames = round(batch.durations[row] / SHIFT)
            assert units_TQ[:, 1].tolist() == [min(t // 4, frames - 1) for t in range(length)]
            assert (batch.features_BTF[row, length:] < 0).all()


def test_augmentation_changes_what_it_is_for(data: Path) -> None:
    mixed, plain = beside(data, input=0.01 / SHIFT), batches(data, beside(data, input=0.01 / SHIFT))
    masks = {"probability": 1.0, "time_fraction": 0.5}
    numbers, units = batches(data, mixed, spec_augment={"probability": 1.0}), batches(data, mixed, unit_augment=masks)
    for before, spec, unit in zip(plain, numbers, units):
        assert torch.equal(before.features_BTF[..., 20:], spec.features_BTF[..., 20:])
        assert not torch.equal(before.features_BTF[..., :20], spec.features_BTF[..., :20])
        assert torch.equal(before.features_BTF[..., :20], unit.features_BTF[..., :20])
        changed = (before.features_BTF[..., 20:] != unit.features_BTF[..., 20:]) & (before.features_BTF[..., 20:] >= 0)
        assert changed.any() and (unit.features_BTF[..., 20:][changed] == SPACE.vocabulary).all()
    for batch in batches(data, beside(data, past=True, codes=True, input=0.01 / SHIFT), unit_augment=masks, copies=2):
        rows = len(batch) // 2
        assert batch.ids[:rows] == batch.ids[rows:] and torch.equal(batch.before_BTQ[:rows], batch.before_BTQ[rows:])
        assert torch.equal(batch.targets.codes_BTQ[:rows], batch.targets.codes_BTQ[rows:])
        one, other = batch.features_BTF[:rows], batch.features_BTF[rows:]
        assert torch.equal(one[..., :20], other[..., :20]) and not torch.equal(one[..., 20:], other[..., 20:])
    again = batches(data, mixed, unit_augment=masks, workers=2)
    assert all(torch.equal(one.features_BTF, other.features_BTF) for one, other in zip(units, again))


class Discrete(Fbank.Config):
    discrete: ClassVar[bool] = True
    codebooks: ClassVar[int] = 2
    vocabulary: ClassVar[int] = 90


def test_what_does_not_go_together_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spec_augment changes numbers and the features are units"):
        batches(data, None, features=Discrete(stored=True), spec_augment={})
    with pytest.raises(ValueError, match="unit_augment changes units and the features have none"):
        batches(data, beside(data, past=True), unit_augment={})
    with pytest.raises(ValueError, match="audio at its own speed"):
        batches(data, beside(data, codes=True), perturb_speed=[0.9])
    with pytest.raises(ValueError, match="shards cannot do"):
        batches(data, beside(data, codes=True), shar={"dir": str(tmp_path)})
    batches(data, beside(data, past=True), perturb_speed=[0.9])
    for wrong in (UnitSpace(3, 90), UnitSpace(2, 21)):
        with pytest.raises(ValueError, match="are no units of"):
            batches(data, Beside(data / "train.jsonl.gz", load, wrong, codes=True))
    few = beside(data, codes=True)
    del few._by_id["a0"]
    with pytest.raises(ValueError, match="'a0' is not in"):
        batches(data, few)
