"""Units as input: embeddings against their obvious forms, padding, other rates, streams, and units of another extractor."""
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from asr.config import validate
from asr.models.frontends import Embedding, UnitEmbedding
from asr.models.subsampling import TYPICAL_MEAN, TYPICAL_STD
from asr.models.transducer import Transducer
from asr.types import UnitSpace
from tests.models.streaming import assert_streams_as_a_whole

SPACE = UnitSpace(codebooks=3, vocabulary=5)
CONFORMER = {"type": "conformer", "dim": 16, "layers": 2, "heads": 2, "feedforward": 16, "kernel": 5}
ZIPFORMER = {
    "type": "zipformer", "frontend": "frames", "layers": [1, 1], "dims": [16, 24], "unmasked_dims": [12, 16], "feed_forward": [24, 32],
    "heads": [2, 2], "kernels": [7, 7], "downsampling": [1, 2], "query_head_dim": 6, "value_head_dim": 4, "pos_dim": 12,
}
CAUSAL = {"causal": True, "chunk_sizes": [4], "left_frames": [8]}
ENCODERS = {
    "conformer 1x": {**CONFORMER, "subsampling": {"type": "frames", "factor": 1}},
    "conformer 2x": {**CONFORMER, "subsampling": {"type": "frames", "factor": 2}},
    "zipformer 1x": {**ZIPFORMER, "subsampling": 1},
    "zipformer 2x": {**ZIPFORMER, "subsampling": 2},
    "zipformer 4x": {**ZIPFORMER, "subsampling": 4},
}


def model_of(
    encoder: dict[str, Any], space: UnitSpace = SPACE, numbers: int = 0, beside: UnitSpace | None = None, **values: Any,
) -> Transducer:
    torch.manual_seed(0)
    config = {"frontend": {"dim": 12}, "encoder": encoder, "predictor": {"type": "stateless", "dim": 8}, "joiner": {"dim": 8}, **values}
    return Transducer(validate(Transducer.Config, config, "test"), numbers + space.codebooks, 6, space, beside).eval()


def units(batch: int, frames: int, space: UnitSpace = SPACE) -> Tensor:
    return torch.randint(space.vocabulary, (batch, frames, space.codebooks), generator=torch.Generator().manual_seed(1))


def embedding(combine: str, space: UnitSpace = SPACE) -> UnitEmbedding:
    torch.manual_seed(0)
    return UnitEmbedding(validate(UnitEmbedding.Config, {"combine": combine, "dim": 8, "codebook_dim": 4}, "test"), space)


def by_hand(module: UnitEmbedding, units_Q: list[int]) -> Tensor:
    """One frame: a table per codebook, as many rows as units and one for the mask."""
    tables = module.table.weight.split(module.units.vocabulary + 1)
    vectors = torch.stack([table[unit] for table, unit in zip(tables, units_Q)])
    if module.project is not None:
        return module.project(vectors.flatten())
    if module.score is not None:
        return (module.score(vectors).softmax(dim=0) * vectors).sum(dim=0)
    return vectors.sum(dim=0)


@pytest.mark.parametrize("combine", ["sum", "concatenate", "attention"])
@pytest.mark.parametrize("space", [UnitSpace(1, 7), SPACE, UnitSpace(80, 16)], ids=str)
def test_embeddings_equal_those_made_frame_by_frame(combine: str, space: UnitSpace) -> None:
    module = embedding(combine, space)
    units_BTQ = units(2, 5, space)
    units_BTQ[0, 1] = space.vocabulary  # masked
    units_BTQ[1, 3:] = -1
    out_BTD = module(units_BTQ)
    assert out_BTD.shape == (2, 5, 8)
    for row, length in enumerate((5, 3)):
        for frame in range(length):
            torch.testing.assert_close(out_BTD[row, frame], by_hand(module, units_BTQ[row, frame].tolist()), rtol=1e-5, atol=1e-6)
    assert not out_BTD[1, 3:].any()
    assert module(units_BTQ[:, :0]).shape == (2, 0, 8)


def test_padding_gives_no_gradient() -> None:
    for combine in ("sum", "concatenate", "attention"):
        module = embedding(combine)
        module(torch.full((1, 4, 3), -1)).sum().backward()
        assert not any(parameter.grad.any() for parameter in module.parameters() if parameter.grad is not None)


def test_units_beside_numbers() -> None:
    frontend = Embedding(UnitEmbedding.Config(dim=8), feature_dim=4 + 3, units=SPACE)
    numbers_BTC, units_BTQ = torch.randn(2, 6, 4), units(2, 6)
    out_BTF = frontend(torch.cat((numbers_BTC, units_BTQ), dim=2))
    assert out_BTF.shape == (2, 6, frontend.output_dim) == (2, 6, 12)
    torch.testing.assert_close(out_BTF[..., :4], (numbers_BTC - TYPICAL_MEAN) / TYPICAL_STD)
    torch.testing.assert_close(out_BTF[..., 4:], frontend.embedding(units_BTQ))
    padded = torch.full((1, 2, 7), -15.94)
    assert not frontend(padded)[..., 4:].any()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("numbers", [0, 4])
def test_batched_equals_alone(name: str, numbers: int) -> None:
    model = model_of(ENCODERS[name], numbers=numbers)
    lens_B = torch.tensor([37, 8, 20, 35])
    features_BTF = model.noise(4, 37)
    for row, length in enumerate(lens_B):
        features_BTF[row, length:] = -1
    together = model.encode(features_BTF, lens_B)
    assert together.lens_B.tolist() == model.encoder.frames_out(lens_B).tolist()
    for row, length in enumerate(lens_B):
        alone = model.encode(features_BTF[row : row + 1, :length], lens_B[row : row + 1])
        frames = int(alone.lens_B)
        assert frames == int(together.lens_B[row]) == alone.frames_BSD.shape[1]
        torch.testing.assert_close(together.frames_BSD[row, :frames], alone.frames_BSD[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_rate_is_what_the_config_says(name: str) -> None:
    encoder = model_of(ENCODERS[name]).encoder
    assert encoder.subsampling == int(name[-2])
    assert int(encoder.frames_out(torch.tensor(40))) == 40 // encoder.subsampling
    assert int(encoder.frames_out(torch.tensor(encoder.min_frames))) > 0 == int(encoder.frames_out(torch.tensor(encoder.min_frames - 1)))


class AsEncoder:
    """A model where the tests of streams expect an encoder."""

    def __init__(self, model: Transducer) -> None:
        self.start, self.step, self.frames_out, self.encode = model.start, model.step, model.encoder.frames_out, model.encode

    def __call__(self, features_BTF: Tensor, lens_B: Tensor) -> Any:
        return self.encode(features_BTF, lens_B)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("piece", [1, 7, 16])
def test_streams_of_units(name: str, piece: int) -> None:
    model = model_of({**ENCODERS[name], **CAUSAL})
    lens_B = torch.tensor([59, 58, 21])
    features_BTF = units(3, 59)
    for row, length in enumerate(lens_B):
        features_BTF[row, length:] = -1
    assert_streams_as_a_whole(AsEncoder(model), features_BTF, lens_B, piece)


def test_streams_of_numbers_pass_the_model_unchanged() -> None:
    torch.manual_seed(0)
    config = {"encoder": {**CONFORMER, **CAUSAL}, "predictor": {"type": "stateless", "dim": 8}}
    model = Transducer(validate(Transducer.Config, config, "test"), 20, 6).eval()
    assert_streams_as_a_whole(AsEncoder(model), torch.randn(2, 90, 20), torch.tensor([90, 61]), 13)


def test_units_of_another_extractor_are_refused() -> None:
    model = model_of(ENCODERS["conformer 2x"])
    lens_B = torch.tensor([10])
    with pytest.raises(ValueError, match="3 codebooks, these have 2"):
        model.encode(units(1, 10, UnitSpace(2, 5)), lens_B)
    with pytest.raises(ValueError, match="units 0 to 4, and there is a 6"):
        model.encode(torch.full((1, 10, 3), 6), lens_B)
    with pytest.raises(ValueError, match="made for units"):
        model.encode(torch.randn(1, 10, 3), lens_B)
    with pytest.raises(ValueError, match="numbers with units beside them"):
        model_of(ENCODERS["conformer 2x"], numbers=4).encode(units(1, 10), lens_B)
    other = model_of(ENCODERS["conformer 2x"], UnitSpace(3, 6))
    with pytest.raises(RuntimeError, match="frontend.embedding.table.weight"):
        other.load_state_dict(model.state_dict())


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="subsampling: {type: frames"):
        model_of(CONFORMER)
    with pytest.raises(ValueError, match="subsampling: {type: frames"):
        model_of({**ZIPFORMER, "frontend": "conv"})
    with pytest.raises(ValueError, match="needs 'frontend: frames'"):
        model_of({**ZIPFORMER, "frontend": "conv", "subsampling": 2})
    with pytest.raises(ValueError, match="discrete units need one"):
        model_of(ENCODERS["conformer 1x"], frontend=None)
    config = validate(Transducer.Config, {"encoder": CONFORMER, "predictor": {"type": "stateless"}, "frontend": {}}, "test")
    with pytest.raises(ValueError, match="there are no units for it"):
        Transducer(config, 20, 6)
    plain = Transducer(config.model_copy(update={"frontend": None}), 20, 6)
    with pytest.raises(ValueError, match="got discrete units"):
        plain.encode(units(1, 20, UnitSpace(20, 3)), torch.tensor([20]))


def test_stacked_frames_are_what_they_say() -> None:
    model = model_of(ENCODERS["conformer 2x"])
    features_BTF = torch.randn(1, 7, 12)
    out_BSD, lens_B = model.encoder.frontend(features_BTF, torch.tensor([7]))
    linear = model.encoder.frontend.linear
    expected = [F.linear(torch.cat((features_BTF[0, 2 * s], features_BTF[0, 2 * s + 1])), linear.weight, linear.bias) for s in range(3)]
    torch.testing.assert_close(out_BSD[0], torch.stack(expected))
    assert lens_B.tolist() == [3]
