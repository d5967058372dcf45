"""K-means over a stream of frames, and units as the nearest centres; with several codebooks, each clusters what the one before left.

Sculley, "Web-Scale K-Means Clustering", WWW 2010; starts by Arthur and Vassilvitskii, "k-means++", SODA 2007. Residual codebooks:
Juang and Gray, "Multiple Stage Vector Quantization for Speech Coding", ICASSP 1982.

Shape legend: asr/types.py; K centres, N frames of a pool, Q codebooks.
"""
from __future__ import annotations

import logging
from typing import Callable, Iterable, Iterator

import torch
from torch import Tensor

log = logging.getLogger(__name__)

POOL = 100_000
"""Frames that are clustered together."""
STARTS_PER_CENTRE = 20
"""Frames for each centre that k-means++ chooses from."""
ITERATIONS = 20
"""Lloyd's iterations on the first pool, so that on a corpus no larger than it this is plain k-means."""
ROWS = 8192
"""Frames whose distances to all centres are in memory at once."""


def nearest(frames_ND: Tensor, centres_KD: Tensor) -> Tensor:
    """int64 (N,): the centre with the smallest Euclidean distance, of equal ones the first."""
    offsets_K = 0.5 * centres_KD.square().sum(1)
    return torch.cat([(offsets_K - rows_ND @ centres_KD.T).argmin(1) for rows_ND in frames_ND.split(ROWS)])


def quantise(frames_ND: Tensor, codebooks_QKD: Tensor) -> Tensor:
    """int64 (N, Q): the nearest centre of the first codebook, of the second the nearest to the difference, and so on."""
    units = []
    for centres_KD in codebooks_QKD:
        units.append(nearest(frames_ND, centres_KD))
        frames_ND = frames_ND - centres_KD[units[-1]]
    return torch.stack(units, dim=1)


def fit(stream: Callable[[], Iterable[Tensor]], clusters: int, codebooks: int, seed: int) -> Tensor:
    """Codebooks (Q, K, D), float32, of the frames (T, D) that ``stream`` gives anew for each codebook.

    In memory is one pool of frames at a time, whatever the size of the corpus. The order of the stream matters: shuffle its utterances.
    Raises ValueError where there are fewer frames than clusters.
    """
    fitted: list[Tensor] = []
    for number in range(codebooks):
        generator = torch.Generator().manual_seed(seed + number)
        kmeans: MiniBatchKMeans | None = None
        distortion, frames = 0.0, 0
        for pool_ND in pools(stream()):
            for centres_KD in fitted:
                pool_ND = pool_ND - centres_KD[nearest(pool_ND, centres_KD)]
            if kmeans is None:
                kmeans = MiniBatchKMeans(pool_ND, clusters, generator)
            else:
                kmeans.update(pool_ND)
            distortion += float((pool_ND - kmeans.centres_KD[nearest(pool_ND, kmeans.centres_KD)]).square().sum())
            frames += len(pool_ND)
        if kmeans is None:
            raise ValueError("there is no frame to cluster")
        log.info("k-means, codebook %d of %d: %d clusters of %d frames, mean squared distance %.4f",
                 number + 1, codebooks, clusters, frames, distortion / frames)
        fitted.append(kmeans.centres_KD)
    return torch.stack(fitted)


def pools(stream: Iterable[Tensor]) -> Iterator[Tensor]:
    """The frames of the stream in pools of ``POOL``; the last one has up to twice as many, so that none is small."""
    parts: list[Tensor] = []
    count = 0
    for frames_TD in stream:
        parts.append(frames_TD)
        count += len(frames_TD)
        if count >= 2 * POOL:
            joined = torch.cat(parts)
            yield joined[:POOL]
            parts, count = [joined[POOL:]], count - POOL
    if count:
        yield torch.cat(parts)


class MiniBatchKMeans:
    """centres_KD: after any number of pools, each is the mean of the frames assigned to it when they came, those of the first pool once."""

    def __init__(self, pool_ND: Tensor, clusters: int, generator: torch.Generator) -> None:
        if len(pool_ND) < clusters:
            raise ValueError(f"{clusters} clusters need at least as many frames, there are {len(pool_ND)}: take fewer, or more audio")
        self._generator = generator
        self.centres_KD = self._start(pool_ND, clusters)
        for _ in range(ITERATIONS):
            before_KD = self.centres_KD
            self._counts_K = torch.zeros(clusters, device=pool_ND.device)
            self.update(pool_ND)
            if torch.equal(before_KD, self.centres_KD):
                break

    def update(self, pool_ND: Tensor) -> None:
        """Moves each centre to the mean of the frames it has had and its frames in this pool; one that has had none, to a random frame."""
        unit_N = nearest(pool_ND, self.centres_KD)
        sums_KD = torch.zeros_like(self.centres_KD).index_add_(0, unit_N, pool_ND)
        new_K = torch.bincount(unit_N, minlength=len(self.centres_KD)).to(self._counts_K)
        total_K = self._counts_K + new_K
        means_KD = (self.centres_KD * self._counts_K.unsqueeze(1) + sums_KD) / total_K.clamp(min=1).unsqueeze(1)
        strays_K = pool_ND[torch.randint(len(pool_ND), (len(self.centres_KD),), generator=self._generator).to(pool_ND.device)]
        self.centres_KD = torch.where((total_K > 0).unsqueeze(1), means_KD, strays_K)
        self._counts_K = total_K

    def _start(self, pool_ND: Tensor, clusters: int) -> Tensor:
        """k-means++: each centre is a frame drawn with probability proportional to its squared distance from those before it."""
        chosen = torch.randperm(len(pool_ND), generator=self._generator)[: STARTS_PER_CENTRE * clusters]
        frames_ND = pool_ND[chosen.to(pool_ND.device)]
        centres = [frames_ND[0]]
        distance_N = (frames_ND - centres[0]).square().sum(1)
        for _ in range(clusters - 1):
            cumulated_N = distance_N.double().cumsum(0)
            drawn = torch.rand((), generator=self._generator, dtype=torch.float64).to(cumulated_N.device) * cumulated_N[-1]
            centres.append(frames_ND[int(torch.searchsorted(cumulated_N, drawn).clamp(max=len(frames_ND) - 1))])
            distance_N = torch.minimum(distance_N, (frames_ND - centres[-1]).square().sum(1))
        return torch.stack(centres)
