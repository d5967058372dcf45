"""Clustering a stream of frames, against plain k-means and brute force."""
from __future__ import annotations

from typing import Iterator

import pytest
import torch
from torch import Tensor

from asr.features.units import kmeans


def blobs(count: int = 2000, centres: int = 6, dim: int = 4) -> tuple[Tensor, Tensor]:
    """Frames around far centres, and these centres."""
    generator = torch.Generator().manual_seed(0)
    centres_KD = 20 * torch.randn(centres, dim, generator=generator)
    return centres_KD[torch.randint(centres, (count,), generator=generator)] + torch.randn(count, dim, generator=generator), centres_KD


def lloyd(frames_ND: Tensor, centres_KD: Tensor) -> Tensor:
    distances_NK = torch.cdist(frames_ND, centres_KD)
    return torch.stack([frames_ND[distances_NK.argmin(1) == k].mean(0) for k in range(len(centres_KD))])


def test_nearest_is_that_of_all_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    frames_ND, centres_KD = torch.randn(100, 5), torch.randn(17, 5)
    expected = torch.cdist(frames_ND, centres_KD).argmin(1)
    assert torch.equal(kmeans.nearest(frames_ND, centres_KD), expected)
    monkeypatch.setattr(kmeans, "ROWS", 7)
    assert torch.equal(kmeans.nearest(frames_ND, centres_KD), expected)


def test_one_pool_is_plain_kmeans() -> None:
    """What is found does not change by one more of Lloyd's iterations, and every blob has its centre."""
    frames_ND, true_KD = blobs()
    found_KD = kmeans.fit(lambda: [frames_ND], 6, 1, seed=0)[0]
    assert torch.allclose(lloyd(frames_ND, found_KD), found_KD, atol=1e-4)
    assert float(torch.cdist(true_KD, found_KD).min(1).values.max()) < 0.5


def test_many_pools_see_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "POOL", 300)
    frames_ND, true_KD = blobs()
    seen: list[int] = []

    def stream() -> Iterator[Tensor]:
        for utterance in frames_ND.split(70):
            seen.append(len(utterance))
            yield utterance

    assert [len(pool) for pool in kmeans.pools(stream())] == [300, 300, 300, 300, 300, 500]
    seen.clear()
    found_QKD = kmeans.fit(stream, 6, 2, seed=0)
    assert sum(seen) == 2 * len(frames_ND)
    assert float(torch.cdist(true_KD, found_QKD[0]).min(1).values.max()) < 0.5
    assert torch.equal(found_QKD, kmeans.fit(stream, 6, 2, seed=0))
    assert not torch.equal(found_QKD[0], kmeans.fit(stream, 6, 1, seed=1)[0])


def test_a_centre_is_the_mean_of_all_that_came_to_it() -> None:
    first, second = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([[2.0], [3.0], [12.0]])
    found = kmeans.MiniBatchKMeans(first, 2, torch.Generator().manual_seed(0))
    found.update(second)
    assert sorted(found.centres_KD.flatten().tolist()) == [1.5, 11.0]


def test_each_codebook_refines_those_before() -> None:
    frames_ND, _ = blobs()
    codebooks_QKD = kmeans.fit(lambda: [frames_ND], 6, 3, seed=0)
    units_NQ = kmeans.quantise(frames_ND, codebooks_QKD)
    left_ND, errors = frames_ND, []
    for number, centres_KD in enumerate(codebooks_QKD):
        assert torch.equal(units_NQ[:, number], torch.cdist(left_ND, centres_KD).argmin(1))
        left_ND = left_ND - centres_KD[units_NQ[:, number]]
        errors.append(float(left_ND.square().sum()))
    assert errors[0] > errors[1] > errors[2]


def test_fewer_frames_than_clusters() -> None:
    with pytest.raises(ValueError, match="5 clusters need at least as many frames, there are 3"):
        kmeans.fit(lambda: [torch.randn(3, 2)], 5, 1, seed=0)
    with pytest.raises(ValueError, match="no frame to cluster"):
        kmeans.fit(lambda: [], 5, 1, seed=0)
    assert len(kmeans.fit(lambda: [torch.ones(9, 2)], 5, 1, seed=0)[0]) == 5  # equal frames: centres without any, but no NaN
