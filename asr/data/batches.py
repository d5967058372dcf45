"""Which utterances make up which batch: a plan of the whole epoch, the same for every rank, worker and resumption."""
from __future__ import annotations

import copy
import hashlib
import random
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Callable, Collection, Iterable, Literal, Mapping, Protocol, Sequence, TypeVar

from pydantic import Field, model_validator

from asr.config import Config as BaseConfig
from asr.data.augment import Noise, Reverb
from asr.data.checks import Tokenizer
from asr.features import AnyFeatures, SpecAugment, UnitAugment

BATCHES_PER_BUCKET = 4


class Utterance(Protocol):
    """What planning needs to know: a lhotse cut does, and so does a place in a shard (asr/data/shar.py). ``id`` gives an order."""

    @property
    def id(self) -> Any: ...

    @property
    def duration(self) -> float: ...


U = TypeVar("U", bound=Utterance)
TokenCount = Callable[[Any], int]
"""How many tokens an utterance has."""


@dataclass
class Measured:
    """An utterance that is as long as what the model reads of it, in ``duration`` seconds of what it reads on average."""

    cut: Any
    id: Any
    duration: float


def measured(cuts: Sequence[Any], frames: Callable[[Any], int]) -> list[Measured]:
    """For input whose frames do not all last as long: together the cuts keep their duration, each has the share of its frames."""
    counts = [frames(cut) for cut in cuts]
    seconds = sum(cut.duration for cut in cuts) / sum(counts)
    return [Measured(cut, cut.id, seconds * count) for cut, count in zip(cuts, counts)]


class SharConfig(BaseConfig):
    """dir: directory of lhotse Shar shards, as local/export_shar.py writes them.
    window: how many shards are shuffled together, and what a process keeps open.
    """

    dir: Path
    window: int = Field(default=10, ge=1)


class BatchConfig(BaseConfig):
    """max_duration: seconds of audio in a batch, counted as its longest utterance times their number; one longer utterance is a batch.
        Units that do not all last as long (without repetitions, or subwords) count as long as they last on average.
        ``auto`` finds what fits into ``memory_gb`` when training begins, and keeps it.
    memory_gb: what a step may take under ``auto``; null is 80 % of the GPU, and on a CPU it must be stated.
    max_lattice: seconds times tokens of a batch, counted as its number of utterances times the longest times the most tokens plus one,
        which is what the memory of an ``rnnt`` loss grows with; null for no limit. With it, utterances are batched with those of
        similar length and as many tokens, and both limits are kept by every batch of more than one utterance.
    max_utterances: one more limit, or null.
    num_buckets: utterances are batched with those of similar length; 1 mixes all lengths. Each bucket ends with a batch that is not full,
        so there are fewer where one would hold less than four batches.
    workers: processes that load batches ahead; 0 loads them in the training process.
    cache: keep all features in memory (about 115 MB per hour of audio with 80 bins), which needs no workers; for corpora that fit.
    shar: read the training set from shards instead of the manifest, for corpora whose cuts do not fit into memory.
    perturb_speed: each epoch, an utterance is played at its own speed or at one of these factors, e.g. [0.9, 1.1].
    perturb_volume: lowest and highest factor that samples are multiplied by, drawn evenly on a logarithmic scale, e.g. [0.25, 2].
    rir: rooms: speech is convolved with impulse responses, before noise is added.
    noise: background noise mixed in.
    spec_augment: masks on the features, and time warp; null for none, as it must be where the features are units.
    unit_augment: masks on units, and swaps; null for none.
    language_temperature: T, for several languages: a language of h hours has h^(1/T) parts of an epoch instead of h. Its length stays
        the same, so utterances of large languages are left out of some epochs, and those of small ones come several times.
    copies: how often each utterance is in a batch, with masks of its own each time; each copy counts in all limits of a batch.
    """

    max_duration: float | Literal["auto"] = 120.0
    memory_gb: float | None = Field(default=None, gt=0)
    max_lattice: float | None = Field(default=None, gt=0)
    max_utterances: int | None = Field(default=None, ge=1)
    num_buckets: int = Field(default=10, ge=1)
    workers: int = Field(default=2, ge=0)
    cache: bool = False
    shar: SharConfig | None = None
    perturb_speed: tuple[float, ...] = ()
    perturb_volume: tuple[float, float] | None = None
    rir: Reverb.Config | None = None
    noise: Noise.Config | None = None
    spec_augment: SpecAugment.Config | None = SpecAugment.Config()
    unit_augment: UnitAugment.Config | None = None
    language_temperature: float | None = Field(default=None, ge=1)
    copies: int = Field(default=1, ge=1, le=2)

    @property
    def changes_audio(self) -> bool:
        return bool(self.perturb_speed or self.perturb_volume or self.rir or self.noise)

    @property
    def seconds(self) -> float:
        """``max_duration``, once it is known."""
        assert self.max_duration != "auto", "asr/cli/batch_size.py puts a number in its place"
        return float(self.max_duration)

    @property
    def of_one_copy(self) -> "BatchConfig":
        """With the limits that remain for the utterances where each counts once."""
        return self.model_copy(update={
            "copies": 1, "max_duration": self.seconds / self.copies,
            "max_lattice": None if self.max_lattice is None else self.max_lattice / self.copies,
            "max_utterances": None if self.max_utterances is None else max(1, self.max_utterances // self.copies),
        })

    @model_validator(mode="after")
    def _consistent(self) -> "BatchConfig":
        if self.max_duration != "auto" and not float(self.max_duration) > 0:
            raise ValueError("max_duration: a number of seconds above 0, or auto")
        if self.cache and self.changes_audio:
            raise ValueError("cache keeps features, so the audio cannot change: drop it, or perturb_speed, perturb_volume, rir and noise")
        if self.cache and self.shar:
            raise ValueError("cache keeps all features in memory, and shar is for what does not fit there: drop one of them")
        if self.language_temperature and self.shar:
            raise ValueError("language_temperature needs the manifest, so it cannot be had with shar: drop one of them")
        if any(not 0.5 <= factor <= 2 for factor in self.perturb_speed):
            raise ValueError("perturb_speed: factors lie between 0.5 and 2")
        if self.perturb_volume and not 0 < self.perturb_volume[0] <= self.perturb_volume[1]:
            raise ValueError("perturb_volume: the lowest factor comes first, and is above 0")
        return self


def derived_seed(*parts: Any) -> int:
    """A 63-bit seed that is a fixed function of its parts, and unrelated for different ones."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def language_factors(hours: Mapping[str, float], temperature: float) -> dict[str, float]:
    """How often an epoch has an utterance of each language: with p = h^(1/T) / sum of h^(1/T), p times all hours over its own, h.

    Conneau et al., "Unsupervised cross-lingual representation learning for speech recognition", Interspeech 2021, section 3.1, whose
    alpha is 1 / T.
    """
    total = sum(hours.values())
    parts = {language: (h / total) ** (1 / temperature) for language, h in hours.items()}
    return {language: parts[language] / sum(parts.values()) * total / h for language, h in hours.items()}


def balanced(cuts: Sequence[Any], temperature: float, seed: int, epoch: int) -> list[Any]:
    """The utterances of one epoch: each as often as its language's factor says, the fraction of it being a matter of chance.

    Within a language, how often two utterances are in an epoch differs by at most one. Raises ValueError for one without a language.
    """
    by_language: dict[str, list[Any]] = {}
    for cut in sorted(cuts, key=lambda cut: cut.id):
        language = cut.supervisions[0].language
        if language is None:
            raise ValueError(f"train.batches.language_temperature: utterance '{cut.id}' has no language")
        by_language.setdefault(language, []).append(cut)
    factors = language_factors({name: sum(cut.duration for cut in found) for name, found in by_language.items()}, temperature)
    chosen = []
    for language, found in by_language.items():
        times, rest = divmod(factors[language], 1)
        rng = random.Random(derived_seed(seed, epoch, "language", language))
        chosen += found * int(times) + rng.sample(found, round(rest * len(found)))
    return chosen


def training_plan(
    utterances: Sequence[U], config: BatchConfig, seed: int, epoch: int, tokens: TokenCount | None = None
) -> list[list[U]]:
    """All batches of one epoch, by lhotse's DynamicBucketingSampler: shuffled, of similar durations, the whole epoch known beforehand.

    tokens: needed with ``max_lattice``.

    The sampler draws its buckets in one order in every epoch and ends with the batches that are not full, so the batches are shuffled once
    more. (Its other way of drawing buckets, ``sync_buckets=False``, ends an epoch at the first bucket that is empty, as of lhotse 1.33.)
    """
    from lhotse.dataset import DynamicBucketingSampler

    config = config.of_one_copy
    shuffled = sorted(utterances, key=lambda utterance: utterance.id)
    rng = random.Random(derived_seed(seed, epoch, "speed and order"))
    if config.perturb_speed:
        shuffled = [_at_speed(utterance, rng.choice((1.0, *config.perturb_speed))) for utterance in shuffled]
    rng.shuffle(shuffled)
    limits: dict[str, Any] = {
        "max_duration": config.seconds, "max_cuts": config.max_utterances, "duration_bins": duration_bins(shuffled, config),
    }
    if config.max_lattice is not None:
        assert tokens is not None, "max_lattice needs the number of tokens"
        buckets = Buckets(shuffled, config, tokens)
        limits = {"constraint": buckets, "duration_bins": list(range(1, len(buckets.sizes)))}  # as many as buckets, less one
    sampler = DynamicBucketingSampler(
        shuffled, shuffle=True, sync_buckets=True, seed=derived_seed(seed, epoch, "batches") % 2**32, rank=0, world_size=1, **limits,
    )
    plan = [list(batch) for batch in sampler]
    rng.shuffle(plan)
    return plan


class Buckets:
    """Buckets by duration, each halved at its median number of tokens, and how many utterances of a bucket make a batch.

    So many of the longest of a bucket with its most tokens stay within ``max_duration`` and ``max_lattice``: no batch exceeds
    them, unless one utterance alone does. The methods are those of lhotse's SamplingConstraint, which counts one batch.

    sizes: utterances per batch, by bucket.
    """

    def __init__(self, utterances: Sequence[Any], config: BatchConfig, tokens: TokenCount) -> None:
        self._tokens = tokens
        self._bins = duration_bins(utterances, config.model_copy(update={"num_buckets": max(1, config.num_buckets // 2)}))
        by_duration: list[list[Any]] = [[] for _ in range(len(self._bins) + 1)]
        for utterance in utterances:
            by_duration[bisect_left(self._bins, utterance.duration)].append(utterance)
        self._medians = [sorted(map(tokens, bucket))[(len(bucket) - 1) // 2] if bucket else 0 for bucket in by_duration]
        members: list[list[Any]] = [[] for _ in range(2 * len(by_duration))]
        for utterance in utterances:
            members[self.select_bucket(None, utterance)].append(utterance)
        self.sizes = [self._size(bucket, config) for bucket in members]
        self._bucket = self._count = 0

    def _size(self, bucket: Sequence[Any], config: BatchConfig) -> int:
        longest = max((utterance.duration for utterance in bucket), default=1.0)
        most = max(map(self._tokens, bucket), default=0)
        assert config.max_lattice is not None
        size = int(min(config.seconds / longest, config.max_lattice / (longest * (most + 1))))
        return max(1, size if config.max_utterances is None else min(size, config.max_utterances))

    def select_bucket(self, buckets: Any, example: Any = None, example_len: Any = None) -> int:
        index = bisect_left(self._bins, example.duration)
        return 2 * index + (self._tokens(example) > self._medians[index])

    def add(self, example: Any) -> None:
        self._bucket = self.select_bucket(None, example)
        self._count += 1

    def exceeded(self) -> bool:
        return self._count > self.sizes[self._bucket]

    def close_to_exceeding(self) -> bool:
        return self._count >= self.sizes[self._bucket]

    def reset(self) -> None:
        self._count = 0

    def measure_length(self, example: Any) -> float:
        return float(example.duration)

    def copy(self) -> "Buckets":
        return copy.copy(self)


@dataclass(frozen=True)
class Extremes:
    """The longest an utterance can be, in seconds and feature frames, and the most tokens that one has; seconds of all together."""

    seconds: float
    frames: int
    tokens: int
    total: float


def extremes(
    cuts: Iterable[Any], config: BatchConfig, features: AnyFeatures, tokenizer: Tokenizer, exclude: Collection[str] = (),
) -> Extremes:
    """Of the cuts that are not excluded, at the slowest of the speeds that they may get. Raises ValueError where none is left."""
    seconds, tokens, total = 0.0, 0, 0.0
    for cut in cuts:
        if cut.id not in exclude:
            seconds, total = max(seconds, cut.duration), total + cut.duration
            tokens = max(tokens, len(tokenizer.encode(cut.supervisions[0].text or "")))
    if not total:
        raise ValueError("no utterance is left to train on")
    slowest = min((1.0, *config.perturb_speed))
    longest = seconds / slowest
    return Extremes(longest, features.num_frames(round(longest * features.sample_rate)), tokens, total / slowest)


def evaluation_plan(cuts: Sequence[U], max_duration: float) -> list[list[U]]:
    """The longest utterances first, neighbours in length together; at most ``max_duration`` seconds in a batch, padding included."""
    plan: list[list[U]] = []
    for cut in sorted(cuts, key=lambda cut: (-cut.duration, cut.id)):
        if plan and plan[-1][0].duration * (len(plan[-1]) + 1) <= max_duration:
            plan[-1].append(cut)
        else:
            plan.append([cut])
    return plan


def padding(plan: Iterable[Sequence[Utterance]]) -> float:
    """The fraction of all frames of the plan's batches that is padding."""
    real = padded = 0.0
    for batch in plan:
        padded += len(batch) * max(cut.duration for cut in batch)
        real += sum(cut.duration for cut in batch)
    return 1 - real / padded if padded else 0.0


def duration_bins(cuts: Sequence[Utterance], config: BatchConfig) -> list[float]:
    """Durations that separate buckets of about equal total duration; one beyond the longest where all are in one bucket."""
    durations = sorted(cut.duration for cut in cuts)
    num_buckets = max(1, min(config.num_buckets, int(sum(durations) / (BATCHES_PER_BUCKET * config.seconds))))
    share = sum(durations) / num_buckets
    bins: list[float] = []
    total = 0.0
    for shorter, longer in pairwise(durations):
        total += shorter
        if total >= share * (len(bins) + 1) and longer > shorter and len(bins) < num_buckets - 1:
            bins.append(longer)
    return bins or [durations[-1] + 1.0]


def _at_speed(utterance: Any, factor: float) -> Any:
    return utterance if factor == 1.0 else utterance.perturb_speed(factor, affix_id=False)
