from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from asr.config import validate
from asr.models.joiner import Joiner
from asr.models.predictors import StatelessPredictor
from asr.models.transducer import Transducer
from asr.models.zipformer import Zipformer
from asr.models.zipformer.encoder import Downsample
from tests.models.streaming import assert_streams_as_a_whole

SMALL: dict[str, Any] = {
    "layers": (1, 2, 1), "dims": (16, 24, 20), "unmasked_dims": (12, 16, 16), "feed_forward": (24, 32, 24), "heads": (2, 2, 2),
    "kernels": (15, 7, 7), "downsampling": (1, 4, 2), "query_head_dim": 6, "value_head_dim": 4, "pos_dim": 12,
    "frontend_channels": (4, 8, 16),
}
CAUSAL = {**SMALL, "causal": True, "chunk_sizes": (8, 16, -1), "left_frames": (16, 32, -1)}


def encoder_of(**values: Any) -> Zipformer:
    encoder = Zipformer(Zipformer.Config(**{**SMALL, **values}), 20)
    with torch.no_grad():  # initial values are too tame to show an error
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) / max(1, parameter.dim()))
    return encoder


@pytest.mark.parametrize(("size", "millions"), [("tiny", None), ("small", 23.3), ("medium", 65.5), ("large", 148.4)])
def test_the_named_sizes_have_the_published_number_of_parameters(size: str, millions: float | None) -> None:
    config = Transducer.Config(
        encoder={"type": "zipformer", "size": size}, predictor=StatelessPredictor.Config(dim=512), joiner=Joiner.Config(dim=512)
    )
    model = Transducer(config, 80, 500)
    simple_joiner = 500 * (model.encoder.output_dim + 1) + 500 * (512 + 1)  # of the pruned loss; counted in the publication
    count = sum(p.numel() for p in model.parameters()) + simple_joiner
    assert count / 1e6 == pytest.approx(3.5 if millions is None else millions, abs=0.06)


def test_explicit_values_override_the_size() -> None:
    config = Zipformer.Config(size="medium", heads=(4,) * 6, causal=True, chunk_sizes=(32,))
    assert config.dims == (192, 256, 384, 512, 384, 256) and config.heads == (4,) * 6
    assert config.decode_chunk_size == 32 and config.decode_left_frames == 64
    assert Zipformer.Config(**config.model_dump()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dims": (16, 24)}, "dims has 2 values for the 6 stacks"),
        ({"kernels": (31, 31, 15, 15, 15, 30)}, "kernels must be odd"),
        ({"causal": True, "chunk_sizes": (12,)}, "chunk size 12 must be -1 or a positive multiple of 8"),
        ({"unmasked_dims": (999,) * 6}, "must not exceed"),
        ({"dim": 3}, "unknown key 'dim'; did you mean 'dims'"),
    ],
)
def test_a_wrong_config_is_explained(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(Zipformer.Config, values, where="conf.yaml")


def test_frames_out_is_what_comes_out() -> None:
    encoder = encoder_of().eval()
    for frames in range(encoder.min_frames, 40):
        with torch.no_grad():
            out = encoder(torch.randn(1, frames, 20), torch.tensor([frames]))
        assert out.frames_BSD.shape[1] == out.lens_B.item() == encoder.frames_out(torch.tensor(frames)) > 0
    assert encoder.frames_out(torch.tensor(encoder.min_frames - 1)) == 0
    with pytest.raises(ValueError, match="8 feature frames is too short"):
        encoder(torch.randn(1, 8, 20), torch.tensor([8]))


@pytest.mark.parametrize(
    "values", [{}, {"causal": True, "chunk_sizes": (8,), "left_frames": (16,)}, {"causal": True, "chunk_sizes": (-1,)}]
)
def test_batched_equals_alone(values: dict[str, Any]) -> None:
    encoder = encoder_of(**values).eval()
    lens = [9, 10, 37, 64, 93, 120]
    features = torch.randn(len(lens), 125, 20) * 3
    with torch.no_grad():
        together = encoder(features, torch.tensor(lens))
        for row, length in enumerate(lens):
            alone = encoder(features[row : row + 1, :length], torch.tensor([length]))
            assert together.lens_B[row] == alone.lens_B[0]
            torch.testing.assert_close(
                together.frames_BSD[row, : alone.lens_B[0]], alone.frames_BSD[0], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize(("chunk", "left", "piece"), [(8, 16, 11), (16, 16, 50), (16, 40, 7)])
@pytest.mark.parametrize("lens", [[9, 9], [50, 50], [131, 131], [131, 9, 60, 30, 129, 43]], ids=str)
def test_streaming_equals_the_chunked_mask_forward(chunk: int, left: int, piece: int, lens: list[int]) -> None:
    encoder = encoder_of(**CAUSAL).eval()
    encoder.chunk_size, encoder.left_frames = chunk, left
    assert_streams_as_a_whole(encoder, torch.randn(len(lens), max(lens), 20) * 3, torch.tensor(lens), piece)


def test_a_causal_model_does_not_see_the_future() -> None:
    encoder = encoder_of(**CAUSAL).eval()
    encoder.chunk_size, encoder.left_frames = 8, 16
    features = torch.randn(1, 120, 20)
    changed = features.clone()
    changed[:, 80:] += 1
    with torch.no_grad():
        a, b = (encoder(x, torch.tensor([120])).frames_BSD for x in (features, changed))
    unchanged = 32 // 2  # the chunk of frames 24..31 at 50 Hz looks at features up to 2 * (31 + 3) + 8 = 76
    assert torch.equal(a[:, :unchanged], b[:, :unchanged]) and not torch.equal(a[:, unchanged:], b[:, unchanged:])


def test_streaming_needs_a_causal_model_with_limits() -> None:
    for values in ({}, {**CAUSAL, "chunk_sizes": (-1,)}, {**CAUSAL, "left_frames": (-1,)}):
        with pytest.raises(ValueError, match="streaming needs"):
            encoder_of(**values).start(1)


def training_loss(encoder: Zipformer, step: int, seed: int) -> Tensor:
    features = torch.randn(4, 90, 20, generator=torch.Generator().manual_seed(1))
    encoder.set_step(step)
    torch.manual_seed(seed)
    out = encoder(features, torch.tensor([90, 80, 61, 33]))
    valid = torch.arange(out.frames_BSD.shape[1]) < out.lens_B.unsqueeze(1)
    return (out.frames_BSD[valid] ** 2).mean()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("step", [0, 3000, 100_000])
def test_training(causal: bool, step: int) -> None:
    encoder = encoder_of(**(CAUSAL if causal else SMALL)).train()
    seen: dict[str, bool] = {}
    for seed in range(4):
        encoder.zero_grad()
        loss = training_loss(encoder, step, seed)
        loss.backward()
        for name, parameter in encoder.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), name
                seen[name] = True
    assert seen.keys() == dict(encoder.named_parameters()).keys()
    first = training_loss(encoder, step, seed=5)
    assert torch.equal(first, training_loss(encoder, step, seed=5))
    assert not torch.equal(first, training_loss(encoder, step, seed=6))


def test_regularisation_fades_with_the_steps() -> None:
    """Late in training little is random; at its start, whole layers are skipped."""
    encoder = encoder_of().train()

    def spread(step: int) -> float:
        return torch.stack([training_loss(encoder, step, seed).detach() for seed in range(12)]).std().item()

    assert spread(0) > spread(200_000) > 0


def test_padding_gets_no_gradient() -> None:
    encoder = encoder_of().eval()
    features = torch.randn(2, 60, 20, requires_grad=True)
    out = encoder(features, torch.tensor([60, 41]))
    out.frames_BSD[1, : out.lens_B[1]].sum().backward()
    assert features.grad is not None
    assert (features.grad[1, 41:] == 0).all() and (features.grad[1, :30] != 0).any() and (features.grad[0] == 0).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_downsampling_repeats_the_last_real_frame(factor: int) -> None:
    module = Downsample(factor)
    with torch.no_grad():
        module.bias.normal_()
    x, lens = torch.randn(3, 8, 5), torch.tensor([8, 5, 1])
    out = module(x, lens)
    for row, length in enumerate(lens.tolist()):
        padded = torch.cat([x[row, :length], x[row, length - 1 :][:1].expand(factor, -1)])
        for frame in range((length + factor - 1) // factor):
            expected = module.bias.softmax(0) @ padded[frame * factor : (frame + 1) * factor]
            torch.testing.assert_close(out[row, frame], expected)


def test_autocast() -> None:
    encoder = encoder_of().train()
    encoder.set_step(5000)
    features, lens = torch.randn(2, 60, 20), torch.tensor([60, 41])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = encoder(features, lens)
        loss = out.frames_BSD.float().square().mean()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)
    encoder.eval()
    with torch.no_grad():
        plain = encoder(features, lens).frames_BSD
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = encoder(features, lens).frames_BSD.float()
    assert (half - plain)[:, :8].norm() < 0.1 * plain[:, :8].norm()
