"""The Conformer: padding never matters, lengths are what it says, and its parts equal their slow, obvious forms."""
from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.models.conformer import Conformer, MaskedBatchNorm, RelativePositions, RotaryPositions, _rotate, _to_absolute

VARIANTS = list(itertools.product(["rotary", "relative"], ["layer", "batch"]))


def build(positions="rotary", norm="layer", **changes) -> Conformer:
    torch.manual_seed(0)
    values = {"dim": 16, "layers": 2, "heads": 2, "feedforward": 24, "kernel": 5, "positions": positions, "norm": norm}
    return Conformer(Conformer.Config(**{**values, **changes}), feature_dim=20)


@pytest.mark.parametrize("positions, norm", VARIANTS)
def test_batched_equals_alone(positions, norm):
    encoder = build(positions, norm).eval()
    lens_B = torch.tensor([61, 7, 30, 6, 60])
    features_BTF = torch.randn(5, 61, 20)
    for row, length in enumerate(lens_B):
        features_BTF[row, length:] = 1e4 * torch.randn(61 - int(length), 20)
    together = encoder(features_BTF, lens_B)
    assert together.frames_BSD.isfinite().all()
    for row, length in enumerate(lens_B):
        alone = encoder(features_BTF[row : row + 1, :length], lens_B[row : row + 1])
        frames = int(alone.lens_B)
        assert frames == int(together.lens_B[row])
        torch.testing.assert_close(together.frames_BSD[row, :frames], alone.frames_BSD[0, :frames], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("positions, norm", VARIANTS)
def test_gradients_ignore_padding(positions, norm):
    lens_B = torch.tensor([40, 25])
    features_BTF = torch.randn(2, 40, 20)

    def gradients(padding: float) -> list[torch.Tensor]:
        encoder = build(positions, norm, dropout=0.0)
        features = features_BTF.clone()
        features[1, 25:] = padding
        out = encoder(features, lens_B)
        valid = torch.arange(out.frames_BSD.shape[1]) < out.lens_B.unsqueeze(1)
        out.frames_BSD[valid].square().sum().backward()
        return [parameter.grad for parameter in encoder.parameters()]

    for one, other in zip(gradients(0.0), gradients(9.0)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_frames_out_is_the_length_of_the_output(frames):
    encoder = build(layers=1)
    with torch.no_grad():
        out = encoder(torch.zeros(1, frames, 20), torch.tensor([frames]))
    expected = int(encoder.frames_out(torch.tensor([frames])))
    assert int(out.lens_B) == expected == max(0, ((frames - 1) // 2 - 1) // 2)
    assert out.frames_BSD.shape[1] == max(1, expected)
    assert (expected > 0) == (frames >= encoder.min_frames)


def test_dropout_is_seeded_and_off_in_evaluation():
    encoder = build(dropout=0.3)
    inputs = torch.randn(1, 40, 20), torch.tensor([40])

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return encoder(*inputs).frames_BSD

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    encoder.eval()
    assert torch.equal(run(1), run(2))


def test_relative_scores_are_moved_to_their_keys():
    frames = 5
    by_distance = torch.randn(2, 3, frames, 2 * frames - 1)
    by_key = _to_absolute(by_distance)
    for query, key in itertools.product(range(frames), repeat=2):
        assert torch.equal(by_key[:, :, query, key], by_distance[:, :, query, frames - 1 - query + key])
    distances = RelativePositions(8, 4)(frames, torch.float32)
    assert torch.equal(distances[frames - 1], RelativePositions(8, 4)(1, torch.float32)[0])


def test_rotary_scores_depend_on_the_distance_only():
    angles = RotaryPositions(16, 8)(12, torch.float32)
    query, key = torch.randn(8), torch.randn(8)
    scores = _rotate(query.expand(1, 1, 12, 8), angles) @ _rotate(key.expand(1, 1, 12, 8), angles).transpose(-2, -1)
    for shift in range(-11, 12):
        diagonal = scores[0, 0].diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores[0, 0, 0, 0], query @ key)


def test_masked_batch_norm_is_batch_norm_of_the_valid_frames():
    masked, plain = MaskedBatchNorm(4), torch.nn.BatchNorm1d(4)
    x_BSD = torch.randn(3, 5, 4)
    valid_BS = torch.arange(5) < torch.tensor([[5], [2], [0]])
    out_BSD = masked(x_BSD, valid_BS)
    torch.testing.assert_close(out_BSD[valid_BS], plain(x_BSD[valid_BS]))
    torch.testing.assert_close(masked.running_mean, plain.running_mean)


@pytest.mark.parametrize("changes, message", [({"dim": 18, "heads": 4}, "multiple"), ({"kernel": 4}, "odd")])
def test_impossible_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
