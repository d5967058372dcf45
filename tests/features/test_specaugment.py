"""SpecAugment: what it may change, how much, and that nothing but the seed and the lengths decides."""
from __future__ import annotations

import torch

from asr.features import SpecAugment
from asr.features.specaugment import time_warp

LENS = torch.tensor([300, 120, 7, 1])


def batch() -> torch.Tensor:
    return torch.randn(4, 300, 80, generator=torch.Generator().manual_seed(0))


def augmented(features: torch.Tensor, seed: int = 5, **config: float) -> torch.Tensor:
    return SpecAugment(SpecAugment.Config(**config))(features, LENS, torch.Generator().manual_seed(seed))


def test_same_seed_same_masks() -> None:
    features = batch()
    original = features.clone()
    assert torch.equal(augmented(features), augmented(features))
    assert not torch.equal(augmented(features), augmented(features, seed=6))
    assert torch.equal(features, original)


def test_copies_are_warped_alike_and_masked_differently() -> None:
    features = batch()

    def copies(count: int, **config: int) -> torch.Tensor:
        augment = SpecAugment(SpecAugment.Config(probability=1.0, time_warp=20, **config))
        return augment(features, LENS, torch.Generator().manual_seed(5), count)

    one, other = copies(2, time_masks=0, frequency_masks=0).chunk(2)
    assert torch.equal(one, other) and not torch.equal(one[0], features[0])
    one, other = copies(2).chunk(2)
    for row, length in enumerate(LENS.tolist()):
        assert torch.equal(one[row, length:], features[row, length:]) and torch.equal(other[row, length:], features[row, length:])
    unmasked = (one[0] == other[0]).float().mean()
    assert 0.1 < unmasked < 0.9
    assert torch.equal(copies(1)[0], one[0]), "the first copy of the first utterance is drawn first"


def test_padding_is_left_alone_and_decides_nothing() -> None:
    features = batch()
    longer = torch.cat([features, torch.full((4, 50, 80), -9.0)], dim=1)
    result = augmented(longer, time_warp=20)
    for row, length in enumerate(LENS):
        assert torch.equal(result[row, length:], longer[row, length:])
    assert torch.equal(result[:, :300], augmented(features, time_warp=20))


def test_masks_are_whole_bands_of_the_mean() -> None:
    features = batch()
    result = augmented(features, probability=1.0, time_masks=0)
    for row, length in enumerate(LENS):
        before, after = features[row, :length], result[row, :length]
        changed = (before != after)
        columns = changed.any(dim=0)
        assert torch.equal(changed, columns.expand_as(changed))
        assert columns.sum() <= 2 * 27
        if columns.any():
            assert (after[:, columns] - before.mean()).abs().max() < 1e-5


def test_time_masks_keep_to_their_fraction() -> None:
    features = batch()
    most = 0
    for seed in range(30):
        result = augmented(features, seed=seed, probability=1.0, frequency_masks=0, time_width=20, time_fraction=0.2)
        for row, length in enumerate(LENS.tolist()):
            frames = int((features[row, :length] != result[row, :length]).any(dim=1).sum())
            assert frames <= 0.2 * length
            most = max(most, frames)
    assert most > 10


def test_probability_zero_changes_nothing() -> None:
    assert torch.equal(augmented(batch(), probability=0.0), batch())


def test_time_warp_moves_but_keeps_order_and_length() -> None:
    ramp = torch.arange(200.0).unsqueeze(1).expand(200, 3)
    warped = time_warp(ramp, 40, torch.Generator().manual_seed(1))
    assert warped.shape == ramp.shape
    assert (warped[1:] >= warped[:-1]).all()
    assert warped.min() >= 0 and warped.max() <= 199
    assert 1 < (warped - ramp).abs().max() <= 41
