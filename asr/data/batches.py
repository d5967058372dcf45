"""Which utterances make up which batch: a plan of the whole epoch, the same for every rank, worker and resumption."""
from __future__ import annotations

import hashlib
import random
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Sequence

from pydantic import Field, model_validator

from asr.config import Config as BaseConfig
from asr.data.augment import Noise
from asr.features import SpecAugment

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

    Plan = list[list[MonoCut]]


BATCHES_PER_BUCKET = 4


class BatchConfig(BaseConfig):
    """max_duration: seconds of audio in a batch, counted as its longest utterance times their number; one longer utterance is a batch.
    max_utterances: a second limit, or null.
    num_buckets: utterances are batched with those of similar length; 1 mixes all lengths. Each bucket ends with a batch that is not full,
        so there are fewer where one would hold less than four batches.
    workers: processes that load batches ahead; 0 loads them in the training process.
    cache: keep all features in memory (about 115 MB per hour of audio with 80 bins), which needs no workers; for corpora that fit.
    perturb_speed: each epoch, an utterance is played at its own speed or at one of these factors, e.g. [0.9, 1.1].
    perturb_volume: lowest and highest factor that samples are multiplied by, drawn evenly on a logarithmic scale, e.g. [0.25, 2].
    noise: background noise mixed in.
    spec_augment: masks on the features; null for none.
    """

    max_duration: float = Field(default=120.0, gt=0)
    max_utterances: int | None = Field(default=None, ge=1)
    num_buckets: int = Field(default=10, ge=1)
    workers: int = Field(default=2, ge=0)
    cache: bool = False
    perturb_speed: tuple[float, ...] = ()
    perturb_volume: tuple[float, float] | None = None
    noise: Noise.Config | None = None
    spec_augment: SpecAugment.Config | None = SpecAugment.Config()

    @property
    def changes_audio(self) -> bool:
        return bool(self.perturb_speed or self.perturb_volume or self.noise)

    @model_validator(mode="after")
    def _consistent(self) -> "BatchConfig":
        if self.cache and self.changes_audio:
            raise ValueError("cache keeps features, so the audio cannot change: drop it, or perturb_speed, perturb_volume and noise")
        if any(not 0.5 <= factor <= 2 for factor in self.perturb_speed):
            raise ValueError("perturb_speed: factors lie between 0.5 and 2")
        if self.perturb_volume and not 0 < self.perturb_volume[0] <= self.perturb_volume[1]:
            raise ValueError("perturb_volume: the lowest factor comes first, and is above 0")
        return self


def derived_seed(*parts: Any) -> int:
    """A 63-bit seed that is a fixed function of its parts, and unrelated for different ones."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def training_plan(cuts: Sequence["MonoCut"], config: BatchConfig, seed: int, epoch: int) -> "Plan":
    """All batches of one epoch, by lhotse's DynamicBucketingSampler: shuffled, of similar durations, the whole epoch known beforehand.

    The sampler draws its buckets in one order in every epoch and ends with the batches that are not full, so the batches are shuffled once
    more. (Its other way of drawing buckets, ``sync_buckets=False``, ends an epoch at the first bucket that is empty, as of lhotse 1.33.)
    """
    from lhotse.dataset import DynamicBucketingSampler

    shuffled = sorted(cuts, key=lambda cut: cut.id)
    rng = random.Random(derived_seed(seed, epoch, "speed and order"))
    if config.perturb_speed:
        shuffled = [_at_speed(cut, rng.choice((1.0, *config.perturb_speed))) for cut in shuffled]
    rng.shuffle(shuffled)
    sampler = DynamicBucketingSampler(
        shuffled, max_duration=config.max_duration, max_cuts=config.max_utterances, shuffle=True,
        duration_bins=duration_bins(shuffled, config), sync_buckets=True,
        seed=derived_seed(seed, epoch, "batches") % 2**32, rank=0, world_size=1,
    )
    plan = [list(batch) for batch in sampler]
    rng.shuffle(plan)
    return plan


def evaluation_plan(cuts: Sequence["MonoCut"], max_duration: float) -> "Plan":
    """The longest utterances first, neighbours in length together; at most ``max_duration`` seconds in a batch, padding included."""
    plan: "Plan" = []
    for cut in sorted(cuts, key=lambda cut: (-cut.duration, cut.id)):
        if plan and plan[-1][0].duration * (len(plan[-1]) + 1) <= max_duration:
            plan[-1].append(cut)
        else:
            plan.append([cut])
    return plan


def padding(plan: "Plan") -> float:
    """The fraction of all frames of the plan's batches that is padding."""
    padded = sum(len(batch) * max(cut.duration for cut in batch) for batch in plan)
    return 1 - sum(cut.duration for batch in plan for cut in batch) / padded if padded else 0.0


def duration_bins(cuts: Sequence["MonoCut"], config: BatchConfig) -> list[float]:
    """Durations that separate buckets of about equal total duration; one beyond the longest where all are in one bucket."""
    durations = sorted(cut.duration for cut in cuts)
    num_buckets = max(1, min(config.num_buckets, int(sum(durations) / (BATCHES_PER_BUCKET * config.max_duration))))
    share = sum(durations) / num_buckets
    bins: list[float] = []
    total = 0.0
    for shorter, longer in pairwise(durations):
        total += shorter
        if total >= share * (len(bins) + 1) and longer > shorter and len(bins) < num_buckets - 1:
            bins.append(longer)
    return bins or [durations[-1] + 1.0]


def _at_speed(cut: "MonoCut", factor: float) -> "MonoCut":
    return cut if factor == 1.0 else cut.perturb_speed(factor, affix_id=False)
