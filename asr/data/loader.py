"""Batches for training and for evaluation.

Augmentation is seeded by (seed, epoch, batch index), so neither the number of workers nor an interruption changes what a batch holds.
Shape legend: asr/types.py.
"""
from __future__ import annotations

import random
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from asr.data.augment import Noise, Reverb, perturb_volume
from asr.data.batches import BatchConfig, balanced, derived_seed, evaluation_plan, measured, padding, training_plan
from asr.data.beside import Beside
from asr.data.checks import Tokenizer
from asr.data.manifests import read_cuts
from asr.data.shar import SharPlan, shar_cuts
from asr.features import AnyFeatures, Fbank, SpecAugment, UnitAugment, Units
from asr.types import Batch, Targets, UnitSpace

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

EXTRACTOR = "extractor"
"""Name of the directory with the extractor of units, beside their manifests."""


class BatchLoader:
    """An iterable of :class:`Batch`; iterating again gives the same batches again.

    num_batches: of the whole epoch, skipped ones and those of other ranks included.
    padding: the fraction of the epoch's frames that is padding, as planned.
    ``len(loader)``: batches that iterating gives.
    """

    def __init__(self, dataset: "_Batches", indices: Sequence[int], workers: int, padding: float) -> None:
        self.num_batches = len(dataset.plan)
        self.padding = padding
        self._dataset = dataset
        self._indices = indices
        self._workers = min(workers, len(indices))

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        loader: Any = DataLoader(
            self._dataset, sampler=self._indices, batch_size=None, num_workers=self._workers, worker_init_fn=_start_worker,
            generator=torch.Generator(),  # its own: drawing the workers' seeds must not advance the global generator
        )
        for item in loader:
            if isinstance(item, _Failure):
                raise ValueError(item.message)
            yield item


def training_loader(
    cuts_path: Path, config: BatchConfig, features: AnyFeatures, tokenizer: Tokenizer, *, seed: int, epoch: int,
    skip_batches: int = 0, rank: int = 0, world_size: int = 1, exclude: Collection[str] = (), beside: Beside | None = None,
) -> BatchLoader:
    """Shuffled, augmented batches of one epoch with targets.

    cuts_path: the manifest; where the config names shards, they take its place.
    All ranks see one global sequence of batches; this one takes those with index % world_size == rank, so that at the end of an
    epoch some may have one batch less. skip_batches: how many batches of the global sequence were done before; they cost nothing.
    exclude: ids of utterances to leave out (see ``check_targets``). beside: units that the batches carry, too.
    Raises ValueError where the audio is to change and the features are stored, where features are missing, or none is left, and for
    augmentation of another kind than the features'.
    """
    if features.stored and config.changes_audio:
        raise ValueError("perturb_speed, perturb_volume, rir and noise change the audio, so stored features are of no use: "
                         "set features.stored: false")
    _check_kinds(config, features, beside)
    plan: Any
    if config.shar is not None:
        plan = SharPlan(config.shar, config, features, tokenizer if config.max_lattice else None, seed=seed, epoch=epoch, exclude=exclude)
        padded = plan.padding
    else:
        cuts = [cut for cut in _cuts(cuts_path) if cut.id not in exclude]
        if not cuts:
            raise ValueError(f"{cuts_path}: no utterance is left to train on")
        if config.language_temperature is not None:
            cuts = balanced(cuts, config.language_temperature, seed, epoch)
        counts = _token_counts(cuts_path, _stamp(cuts_path), tokenizer) if config.max_lattice else {}
        lengths: Any = measured(cuts, count_frames(cuts_path, features)) if varies(features) else cuts
        plan = training_plan(lengths, config, seed, epoch, lambda cut: counts[cut.id])
        padded = padding(plan)
        if lengths is not cuts:
            plan = [[utterance.cut for utterance in batch] for batch in plan]
    units = open_units(features, cuts_path)
    cache = _cached_features(cuts_path, _stamp(cuts_path), features) if config.cache else None
    augmentation = _Augmentation(config, features.sample_rate, _input_units(features, beside), seed, epoch)
    dataset = _Batches(plan, features, tokenizer, cache, augmentation, beside, units)
    indices = [index for index in range(skip_batches, len(plan)) if index % world_size == rank]
    return BatchLoader(dataset, indices, 0 if config.cache else config.workers, padded)


def _input_units(features: Any, beside: Beside | None) -> UnitSpace | None:
    """Those that a frame of input ends with; None where it has none."""
    if features.discrete:
        return UnitSpace(features.codebooks, features.vocabulary)
    return None if beside is None or beside.input is None else beside.space


def _check_kinds(config: BatchConfig, features: AnyFeatures, beside: Beside | None) -> None:
    if features.discrete and config.spec_augment is not None:
        raise ValueError("train.batches.spec_augment changes numbers and the features are units: set it to null; unit_augment masks units")
    if config.unit_augment is not None and _input_units(features, beside) is None:
        raise ValueError("train.batches.unit_augment changes units and the features have none: set it to null; spec_augment masks numbers")
    if beside is not None and config.shar is not None:
        raise ValueError("train.batches.shar: units beside the features are looked up by id, which shards cannot do: set it to null")
    if beside is not None and (beside.input is not None or beside.codes) and config.perturb_speed:
        raise ValueError("train.batches.perturb_speed: the units beside the features are of audio at its own speed: leave it out")


def training_cuts(cuts_path: Path, config: BatchConfig) -> "Iterable[MonoCut]":
    """The cuts that :func:`training_loader` would load, one after the other, without their data where they lie in shards."""
    return _cuts(cuts_path) if config.shar is None else shar_cuts(config.shar.dir)


def evaluation_loader(
    cuts_path: Path, features: AnyFeatures, tokenizer: Tokenizer | None = None, *, max_duration: float = 120.0, workers: int = 0,
    exclude: Collection[str] = (), beside: Beside | None = None, job: int = 1, jobs: int = 1,
) -> BatchLoader:
    """Every utterance once, the longest first; at most ``max_duration`` seconds in a batch, padding included.

    Batches have targets where a tokenizer is given.
    job, jobs: give only every ``jobs``-th of the same batches, from the ``job``-th on.
    """
    cuts = [cut for cut in _cuts(cuts_path) if cut.id not in exclude]
    if not cuts:
        raise ValueError(f"{cuts_path}: no utterance is left")
    plan = evaluation_plan(cuts, max_duration)
    dataset = _Batches(plan, features, tokenizer, None, None, beside, open_units(features, cuts_path))
    return BatchLoader(dataset, range(job - 1, len(plan), jobs), workers, padding(plan))


class _Failure:
    """What a worker sends instead of a batch: raising there would bury the message under two tracebacks."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Augmentation:
    """Everything that is random about the batch with a given index."""

    def __init__(self, config: BatchConfig, sample_rate: int, units: UnitSpace | None, seed: int, epoch: int) -> None:
        self.volume = config.perturb_volume
        self.reverb = None if config.rir is None else Reverb(config.rir, sample_rate)
        self.noise = None if config.noise is None else Noise(config.noise, sample_rate)
        self.spec_augment = None if config.spec_augment is None else SpecAugment(config.spec_augment)
        self.unit_augment = None if config.unit_augment is None or units is None else UnitAugment(config.unit_augment, units.vocabulary)
        self._codebooks = 0 if units is None else units.codebooks
        self.copies = config.copies
        self._position = (seed, epoch)

    def audio(self, index: int) -> random.Random:
        return random.Random(derived_seed(*self._position, index, "audio"))

    def waveform(self, samples: Tensor, rng: random.Random) -> Tensor:
        if self.reverb is not None:
            samples = self.reverb(samples, rng)
        if self.noise is not None:
            samples = self.noise(samples, rng)
        if self.volume is not None:
            samples = perturb_volume(samples, self.volume, rng)
        return samples

    def features(self, features_BTF: Tensor, lens_B: Tensor, index: int) -> Tensor:
        """All copies, (copies * B, T, F)."""
        numbers_BTC, units_BTQ = features_BTF.split((features_BTF.shape[2] - self._codebooks, self._codebooks), dim=2)
        if self.spec_augment is None:
            numbers_BTC = numbers_BTC.repeat(self.copies, 1, 1)
        else:
            generator = torch.Generator().manual_seed(derived_seed(*self._position, index, "features"))
            numbers_BTC = self.spec_augment(numbers_BTC, lens_B, generator, self.copies)
        if self.unit_augment is None:
            units_BTQ = units_BTQ.repeat(self.copies, 1, 1)
        else:
            generator = torch.Generator().manual_seed(derived_seed(*self._position, index, "units"))
            units_BTQ = self.unit_augment(units_BTQ.long(), lens_B, generator, self.copies)
        return torch.cat((numbers_BTC, units_BTQ.to(numbers_BTC.dtype)), dim=2)


class _Batches(Dataset):  # type: ignore[type-arg]
    """Item k is the k-th batch of the plan."""

    def __init__(
        self, plan: "list[list[MonoCut]] | SharPlan", features: AnyFeatures, tokenizer: Tokenizer | None,
        cache: Mapping[str, Tensor] | None, augmentation: _Augmentation | None, beside: Beside | None, units: Units | None,
    ) -> None:
        self.plan = plan
        self.features = features
        self.tokenizer = tokenizer
        self.cache = cache
        self.augmentation = augmentation
        self.beside = beside
        self.units = units

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch | _Failure:
        try:
            with one_thread():
                return self._batch(self.plan[index], index)
        except ValueError as error:
            return _Failure(str(error))

    def _batch(self, cuts: "Sequence[MonoCut]", index: int) -> Batch:
        augmentation, beside = self.augmentation, self.beside
        copies = 1 if augmentation is None else augmentation.copies
        rng = augmentation.audio(index) if augmentation is not None else None
        matrices = []
        for cut in cuts:
            if self.cache is not None:
                matrices.append(self.cache[cut.id])
            elif self.features.stored:
                matrices.append(stored_features(cut, self.features, self.units))
            else:
                samples = waveform(cut, self.features.sample_rate)
                if augmentation is not None and rng is not None:
                    samples = augmentation.waveform(samples, rng)
                matrices.append(_extractor(self.features)(samples))
            if beside is not None and beside.input is not None:
                matrices[-1] = beside.joined(cut.id, matrices[-1])
        unit_starts = None
        if self.units is not None:
            views = [self.units.view(matrix) for matrix in matrices]
            matrices = [view.units_TQ for view in views]
            unit_starts = None if self.units.config.every_frame else copies * tuple(view.starts_T for view in views)
        lens_B = torch.tensor([len(matrix) for matrix in matrices])
        features_BTF = torch.nn.utils.rnn.pad_sequence(matrices, batch_first=True, padding_value=self.features.padding_value)
        if augmentation is not None:
            features_BTF = augmentation.features(features_BTF, lens_B, index)
        ids, texts = copies * tuple(cut.id for cut in cuts), copies * tuple(cut.supervisions[0].text or "" for cut in cuts)
        targets = None if self.tokenizer is None else Targets.from_lists([self.tokenizer.encode(text) for text in texts])
        if targets is not None and beside is not None and beside.codes:
            targets = replace(targets, codes_BTQ=beside.batch(ids))
        return Batch(
            features_BTF, lens_B.repeat(copies), ids=ids, texts=texts, durations=copies * tuple(cut.duration for cut in cuts),
            targets=targets, copies=copies,
            before_BTQ=None if beside is None else beside.before(ids), after_BTQ=None if beside is None else beside.after(ids),
            unit_starts=unit_starts,
        )


def waveform(cut: "MonoCut", sample_rate: int) -> Tensor:
    """float32 (samples,) in -1..1. Raises ValueError, with the cut's id, where the audio cannot be read or has another rate."""
    if cut.sampling_rate != sample_rate:
        raise ValueError(f"utterance '{cut.id}' has a sample rate of {cut.sampling_rate} Hz and features.sample_rate is {sample_rate}: "
                         "make them and corpus.sample_rate the same")
    try:
        audio: Any = cut.load_audio()
    except Exception as error:  # whatever a decoder raises
        source = cut.recording.sources[0]
        place = source.source if source.type == "file" else "its audio"
        raise ValueError(f"utterance '{cut.id}': cannot read {place} ({type(error).__name__}); "
                         "if it was there before, restore it, else run the stage of manifests again") from error
    return torch.from_numpy(audio[0])


def open_units(features: AnyFeatures, cuts_path: Path) -> Units | None:
    """What reads units of the manifest ``cuts_path``: their extractor is beside it. None for other features."""
    return Units(features, cuts_path.parent / EXTRACTOR) if isinstance(features, Units.Config) else None


def varies(features: AnyFeatures) -> bool:
    """Whether frames that the model reads do not all last as long."""
    return isinstance(features, Units.Config) and not features.every_frame


def count_frames(cuts_path: Path, features: AnyFeatures) -> "Callable[[MonoCut], int]":
    """How many feature frames a cut of this manifest has. Of units in shards, which are not read for this, all frames are counted."""
    units = open_units(features, cuts_path)

    def count(cut: "MonoCut") -> int:
        if units is None:
            return features.num_frames(cut.num_samples)
        if not varies(features) or not cut.has_features or cut.features.storage_type == "shar":
            return int(cut.num_frames)
        return _unit_counts(cuts_path, _stamp(cuts_path), features)[cut.id]

    return count


def stored_features(cut: "MonoCut", config: AnyFeatures, units: Units | None = None) -> Tensor:
    """As the archive has them: float32 (T, F), or int32 (T, Q), the units of every frame. units: needed for those.

    Raises ValueError, with the cut's id, where there are none or others.
    """
    if not cut.has_features:
        raise ValueError(f"utterance '{cut.id}' has no stored features: run the stage of features, or set features.stored: false")
    try:
        features: Any = cut.load_features()
    except (OSError, ValueError) as error:
        raise ValueError(f"utterance '{cut.id}': cannot read its features from {cut.features.storage_path} ({error}); "
                         "remove the directory and run the stage of features again") from error
    if features.shape[1] != config.dim:
        kind = "codebooks" if config.discrete else "bins"
        raise ValueError(f"utterance '{cut.id}': its stored features have {features.shape[1]} {kind}, the config asks for {config.dim}")
    if units is None:
        return torch.from_numpy(features).float()
    if cut.features.type != units.kind:
        raise ValueError(f"utterance '{cut.id}': its units are of another extractor ({cut.features.type}) than that of "
                         f"{units.directory} ({units.kind}): run the stage of features again")
    vocabulary = units.config.extractor.vocabulary
    if features.max() >= vocabulary:
        raise ValueError(f"utterance '{cut.id}': unit {features.max()} is not one of the vocabulary of {vocabulary}; "
                         f"remove {cut.features.storage_path} and run the stage of features again")
    return torch.from_numpy(features.astype(np.int32))


@contextmanager
def one_thread() -> Iterator[None]:
    """How many threads share a convolution decides its last bits: batches made here and in a worker, which has one thread, are the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=4)
def _extractor(config: Fbank.Config) -> Fbank:
    return Fbank(config)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file does."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _cuts(path: Path) -> "list[MonoCut]":
    return _read_once(path, _stamp(path))


@lru_cache(maxsize=8)
def _read_once(path: Path, stamp: Any) -> "list[MonoCut]":
    return read_cuts(path)


@lru_cache(maxsize=2)
def _token_counts(path: Path, stamp: Any, tokenizer: Tokenizer) -> dict[str, int]:
    return {cut.id: len(tokenizer.encode(cut.supervisions[0].text or "")) for cut in _cuts(path)}


@lru_cache(maxsize=4)
def _unit_counts(path: Path, stamp: Any, config: Units.Config) -> dict[str, int]:
    """What is left of each utterance's units as the model reads them."""
    units = open_units(config, path)
    assert units is not None
    return {
        cut.id: len(units.view(stored_features(cut, config, units)).units_TQ)
        for cut in tqdm(_cuts(path), desc="counting units", unit="utt", delay=3)
    }


@lru_cache(maxsize=2)
def _cached_features(path: Path, stamp: Any, config: AnyFeatures) -> dict[str, Tensor]:
    """Features of every utterance, kept from one epoch to the next."""
    units = open_units(config, path)
    with one_thread():
        return {
            cut.id: stored_features(cut, config, units) if config.stored else _extractor(config)(waveform(cut, config.sample_rate))
            for cut in tqdm(_cuts(path), desc="features into memory", unit="utt", delay=3)
        }


def _start_worker(worker: int) -> None:
    """An interrupt goes to every process of the group; only the main one answers it, and takes the workers down.

    It may do so while it is fetching a batch, which is no news of the worker's that hands it out.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = sys.excepthook

    def unless_hung_up(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, (ConnectionError, EOFError)):
            report(kind, error, traceback)

    sys.excepthook = unless_hung_up  # by which the thread that hands out batches tells its errors
