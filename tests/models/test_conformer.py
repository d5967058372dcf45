"""The Conformer: padding never matters, lengths are what it says, and its parts equal their slow, obvious forms."""
from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.models.conformer import Conformer, MaskedBatchNorm
from asr.models.joiner import Joiner
from asr.models.predictors import LstmPredictor
from asr.models.transducer import Transducer
from asr.models.transformer import RelativePositions, RotaryPositions, rotate, to_absolute
from tests.models.streaming import assert_streams_as_a_whole, stream

VARIANTS = list(itertools.product(["rotary", "relative"], ["layer", "batch"]))


CAUSAL = {"causal": True, "chunk_sizes": (4, 8, -1), "left_frames": (8, -1)}
TRANSFORMER = {"kernel": 0, "macaron": False}


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
@pytest.mark.parametrize("changes", [{}, {"causal": True, "chunk_sizes": (3,)}, {"kernel": 0, "macaron": False}], ids=str)
def test_gradients_ignore_padding(positions, norm, changes):
    lens_B = torch.tensor([40, 25])
    features_BTF = torch.randn(2, 40, 20)

    def gradients(padding: float) -> list[torch.Tensor]:
        encoder = build(positions, norm, dropout=0.0, **changes, left_frames=(6,))
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
    by_key = to_absolute(by_distance)
    for query, key in itertools.product(range(frames), repeat=2):
        assert torch.equal(by_key[:, :, query, key], by_distance[:, :, query, frames - 1 - query + key])
    distances = RelativePositions(8, 4)(frames, frames, torch.float32)
    assert torch.equal(distances[frames - 1], RelativePositions(8, 4)(1, 1, torch.float32)[0])


def test_rotary_scores_depend_on_the_distance_only():
    angles = RotaryPositions(16, 8)(12, 12, torch.float32)
    query, key = torch.randn(8), torch.randn(8)
    scores = rotate(query.expand(1, 1, 12, 8), angles) @ rotate(key.expand(1, 1, 12, 8), angles).transpose(-2, -1)
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


@pytest.mark.parametrize("chunk, left, piece", [(1, 2, 5), (4, 8, 11), (4, 5, 50), (16, 16, 3)])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"norm": "batch"}, {"positions": "relative"}, {"kernel": 31}, {"context": (3, 2)}, {"context": (30, 0)},
        {**TRANSFORMER, "context": (4, 1)}, {**TRANSFORMER, "positions": "relative"},
    ],
    ids=str,
)
def test_streaming_equals_the_forward_pass_with_chunk_masks(changes, chunk, left, piece):
    encoder = build(**CAUSAL, **changes).eval()
    encoder.chunk_size, encoder.left_frames = chunk, left
    assert_streams_as_a_whole(encoder, 3 * torch.randn(6, 120, 20), torch.tensor([7, 120, 5, 64, 66, 37]), piece)


def test_a_transformer_transducer_without_right_context_streams_by_any_chunk():
    """Its layers see nothing to the right, so chunks only say how much is computed at once; and its context is limit enough."""
    encoder = build(**CAUSAL, **TRANSFORMER, context=(6, 0)).eval()
    inputs = torch.randn(1, 90, 20), torch.tensor([90])
    encoder.left_frames = -1
    expected = build(**TRANSFORMER, context=(6, 0)).eval()(*inputs)
    for chunk in (1, 7):
        encoder.chunk_size = chunk
        torch.testing.assert_close(stream(encoder, *inputs, piece=8).frames_BSD, expected.frames_BSD, rtol=1e-4, atol=1e-4)


def test_a_causal_conformer_sees_its_chunk_and_what_lies_before():
    encoder = build(**CAUSAL, layers=1, kernel=3).eval()
    features_BTF, lens_B = torch.randn(1, 99, 20, requires_grad=True), torch.tensor([99])  # 24 frames, six chunks of four
    out = encoder(features_BTF, lens_B).frames_BSD
    for frame in range(24):
        (grad,) = torch.autograd.grad(out[0, frame].square().sum(), features_BTF, retain_graph=True)
        seen = (grad[0].abs().amax(1) > 0).nonzero().squeeze(1)
        chunk = frame // 4
        # The attention looks two chunks back, the convolution one frame, which may lie in the chunk before and look back from there.
        furthest = min(chunk, (frame - 1) // 4) - 2
        assert int(seen[0]) == max(0, 4 * furthest) * 4 and int(seen[-1]) == 4 * (4 * chunk + 3) + 6


def test_one_chunk_is_the_offline_conformer():
    causal, offline = build(**CAUSAL).eval(), build().eval()
    inputs = torch.randn(2, 99, 20), torch.tensor([99, 50])
    causal.chunk_size = -1
    assert torch.equal(causal(*inputs).frames_BSD, offline(*inputs).frames_BSD)
    causal.chunk_size, causal.left_frames = 24, -1
    torch.testing.assert_close(causal(*inputs).frames_BSD[:1], offline(*inputs).frames_BSD[:1], rtol=1e-4, atol=1e-4)


def test_training_draws_the_chunk():
    encoder = build(**CAUSAL, dropout=0.0).train()
    inputs = torch.randn(1, 99, 20), torch.tensor([99])

    def outcomes(mode: bool) -> set[float]:
        encoder.train(mode)
        return {float(encoder(*inputs).frames_BSD[0, 20, 0].detach()) for _ in range(40)}

    assert len(outcomes(True)) == 5  # chunks of 4 or 8 frames with limited or unlimited left context, and the whole utterance
    assert len(outcomes(False)) == 1


def test_streaming_needs_a_causal_model_with_limits():
    for changes in ({}, {**CAUSAL, "decode_chunk_size": -1}, {**CAUSAL, "decode_left_frames": -1}):
        with pytest.raises(ValueError, match="streaming needs"):
            build(**changes).start(1)


@pytest.mark.parametrize("size, millions, lstm", [("small", 10.3, 320), ("medium", 30.7, 640), ("large", 118.8, 640)])
def test_the_named_sizes_have_the_published_number_of_parameters(size, millions, lstm):
    """Within what is not published: the dimensions of the embedding and of the joiner."""
    encoder = Conformer.Config(size=size)
    assert Conformer.Config(**encoder.model_dump()) == encoder
    config = Transducer.Config(encoder=encoder, predictor=LstmPredictor.Config(dim=lstm), joiner=Joiner.Config(dim=lstm))
    count = sum(parameter.numel() for parameter in Transducer(config, 80, 1024).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.06)


def test_explicit_values_override_the_size():
    config = Conformer.Config(size="small", layers=3, norm="layer")
    assert (config.dim, config.layers, config.norm, config.subsampling.channels) == (144, 3, "layer", 144)


@pytest.mark.parametrize("changes, message", [
    ({"dim": 18, "heads": 4}, "multiple"), ({"kernel": 4}, "odd"), ({"causal": True, "chunk_sizes": (0,)}, "chunk size 0"),
    ({"causal": True, "left_frames": ()}, "needs chunk_sizes and left_frames"),
])
def test_impossible_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
