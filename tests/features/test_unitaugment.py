"""UnitAugment: what it may change, how much, and that nothing but the seed and the lengths decides."""
from __future__ import annotations

import torch

from asr.features import UnitAugment

LENS = torch.tensor([300, 120, 7, 1])
VOCABULARY = 11


def batch(codebooks: int = 6) -> torch.Tensor:
    units_BTQ = torch.randint(VOCABULARY, (4, 300, codebooks), generator=torch.Generator().manual_seed(0))
    for row, length in enumerate(LENS):
        units_BTQ[row, length:] = -1
    return units_BTQ


def augmented(units_BTQ: torch.Tensor, seed: int = 5, **config: float) -> torch.Tensor:
    return UnitAugment(UnitAugment.Config(**config), VOCABULARY)(units_BTQ, LENS, torch.Generator().manual_seed(seed))


def test_same_seed_same_changes_and_padding_stays() -> None:
    units_BTQ, everything = batch(), {"swap": 0.2, "codebook_masks": 1, "codebook_width": 2}
    original = units_BTQ.clone()
    result = augmented(units_BTQ, **everything)
    assert torch.equal(result, augmented(units_BTQ, **everything))
    assert not torch.equal(result, augmented(units_BTQ, seed=6, **everything))
    assert torch.equal(units_BTQ, original) and torch.equal(result < 0, original < 0)
    longer = torch.cat([units_BTQ, torch.full((4, 50, 6), -1)], dim=1)
    assert torch.equal(augmented(longer, **everything)[:, :300], result)


def test_time_masks_are_whole_frames_of_the_mask_and_keep_to_their_fraction() -> None:
    most = 0
    for seed in range(30):
        units_BTQ = batch()
        result = augmented(units_BTQ, seed=seed, probability=1.0, time_fraction=0.2)
        changed = result != units_BTQ
        assert torch.equal(changed, changed.any(dim=2, keepdim=True).expand_as(changed))
        assert (result[changed] == VOCABULARY).all()
        assert (changed[:, :, 0].sum(dim=1) <= 0.2 * LENS).all()
        most = max(most, int(changed[0, :, 0].sum()))
    assert most > 10


def test_codebook_masks_are_whole_bands() -> None:
    units_BTQ = batch()
    result = augmented(units_BTQ, probability=1.0, time_masks=0, codebook_masks=1, codebook_width=2)
    for row, length in enumerate(LENS):
        changed = result[row, :length] != units_BTQ[row, :length]
        assert torch.equal(changed, changed.any(dim=0).expand_as(changed)) and changed.any(dim=0).sum() <= 2
        assert (result[row, :length][changed] == VOCABULARY).all()


def test_swapped_units_are_others_of_the_vocabulary() -> None:
    units_BTQ = batch()
    result = augmented(units_BTQ, probability=1.0, time_masks=0, swap=0.25)
    changed = result != units_BTQ
    assert 0.2 < changed[0].float().mean() < 0.3
    assert set(result[0].flatten().tolist()) == set(range(VOCABULARY))
    assert torch.equal(augmented(units_BTQ, probability=1.0, time_masks=0), units_BTQ)
