"""Cross-utterance context: against doing it by hand, padding, streams that know the past, and what is refused."""
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from asr.config import validate
from asr.models.transducer import Transducer
from asr.types import UnitSpace
from tests.models.streaming import stream
from tests.models.test_frontends import CAUSAL, CONFORMER, ENCODERS, SPACE, ZIPFORMER, AsEncoder, model_of, units

BESIDE = UnitSpace(2, 9)
KINDS = {
    "pooled": {"type": "pooled", "embedding": {"dim": 6}},
    "concatenated": {"type": "concatenated", "frames": 8, "embedding": {"dim": 6}},
}


def with_context(encoder: dict[str, Any], kind: str, future: bool = True, **values: Any) -> Transducer:
    """Its vectors for missing neighbours are not the zeros they begin with."""
    model = model_of(encoder, beside=BESIDE, context={**KINDS[kind], "future": future}, **values)
    with torch.no_grad():
        for name, parameter in model.context.named_parameters():
            if "nothing" in name:
                parameter.normal_()
    return model


def neighbours(lens: list[int], frames: int) -> Tensor:
    units_BTQ = units(len(lens), frames, BESIDE)
    for row, length in enumerate(lens):
        units_BTQ[row, length:] = -1
    return units_BTQ


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["conformer 2x", "zipformer 2x"])
def test_batched_equals_alone(kind: str, name: str) -> None:
    model = with_context(ENCODERS[name], kind)
    lens_B, before_lens, after_lens = torch.tensor([30, 17, 24]), [12, 0, 5], [3, 11, 0]
    features_BTF, before_BTQ, after_BTQ = units(3, 30), neighbours(before_lens, 12), neighbours(after_lens, 11)
    for row, length in enumerate(lens_B):
        features_BTF[row, length:] = -1
    together = model.encode(features_BTF, lens_B, before_BTQ, after_BTQ)
    assert together.lens_B.tolist() == model.encoder.frames_out(lens_B).tolist()
    for row, length in enumerate(lens_B):
        before = before_BTQ[row : row + 1, : before_lens[row]] if before_lens[row] else None
        after = after_BTQ[row : row + 1, : after_lens[row]] if after_lens[row] else None
        alone = model.encode(features_BTF[row : row + 1, :length], lens_B[row : row + 1], before, after)
        frames = int(alone.lens_B)
        torch.testing.assert_close(together.frames_BSD[row, :frames], alone.frames_BSD[0], rtol=1e-4, atol=1e-5)


def test_concatenated_is_the_encoder_over_three_utterances() -> None:
    model = with_context(ENCODERS["conformer 2x"], "concatenated")
    context, features_BTF, lens_B = model.context, units(1, 20), torch.tensor([20])
    before_BTQ, after_BTQ = neighbours([11], 11), neighbours([5], 5)
    out = model.encode(features_BTF, lens_B, before_BTQ, after_BTQ)

    def projected(units_BTQ: Tensor) -> Tensor:
        return context.project(context.embedding(units_BTQ))

    nothing_BTF = context.nothing_F.expand(1, 3, -1)
    whole_BTF = torch.cat((projected(before_BTQ[:, 3:]), model.frontend(features_BTF), projected(after_BTQ), nothing_BTF), dim=1)
    expected = model.encoder(whole_BTF, torch.tensor([8 + 20 + 8]))
    torch.testing.assert_close(out.frames_BSD, expected.frames_BSD[:, 4:14])


def test_pooled_is_an_offset_to_every_frame() -> None:
    model = with_context(ENCODERS["conformer 2x"], "pooled", future=False)
    context, before_BTQ = model.context, neighbours([4], 6)
    frames = torch.cat((context.nothing_D.unsqueeze(0), context.embedding(before_BTQ[:, :4])[0]))
    vector = (context.score(frames).softmax(dim=0) * frames).sum(dim=0)
    around_BTF, _ = context(torch.zeros(1, 5, 12), torch.tensor([5]), before_BTQ, None)
    torch.testing.assert_close(around_BTF[0], context.project["past"](vector).expand(5, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_with_mel_bins_too(kind: str) -> None:
    torch.manual_seed(0)
    config = {"encoder": CONFORMER, "predictor": {"type": "stateless", "dim": 8}, "context": KINDS[kind]}
    model = Transducer(validate(Transducer.Config, config, "test"), 20, 6, beside=BESIDE).eval()
    features_BTF, lens_B = torch.randn(2, 60, 20), torch.tensor([60, 41])
    with_it = model.encode(features_BTF, lens_B, neighbours([9, 4], 9))
    without = model.encode(features_BTF, lens_B)
    assert with_it.lens_B.tolist() == without.lens_B.tolist() == model.encoder.frames_out(lens_B).tolist()
    assert (with_it.frames_BSD[1, :9] - without.frames_BSD[1, :9]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["conformer 2x", "zipformer 1x", "zipformer 4x"])
def test_streams_know_the_past(kind: str, name: str) -> None:
    model = with_context({**ENCODERS[name], **CAUSAL}, kind, future=False)
    lens_B, before_BTQ = torch.tensor([40, 23]), neighbours([12, 0], 12)
    features_BTF = units(2, 40)
    features_BTF[1, 23:] = -1
    streams = AsEncoder(model)
    streams.start = lambda count: model.start(count, before_BTQ=before_BTQ)
    whole, streamed = model.encode(features_BTF, lens_B, before_BTQ), stream(streams, features_BTF, lens_B, piece=5)
    assert streamed.lens_B.tolist() == whole.lens_B.tolist()
    for row, frames in enumerate(whole.lens_B.tolist()):
        torch.testing.assert_close(streamed.frames_BSD[row, :frames], whole.frames_BSD[row, :frames], rtol=1e-4, atol=1e-4)
    other = model.encode(features_BTF, lens_B)
    assert (other.frames_BSD[0, 0] - whole.frames_BSD[0, 0]).abs().max() > 1e-3


def test_every_part_learns() -> None:
    for kind in KINDS:
        model = with_context(ENCODERS["conformer 2x"], kind).train()
        out = model.encode(units(2, 30), torch.tensor([30, 20]), neighbours([12, 0], 12), neighbours([3, 11], 11))
        out.frames_BSD[:, :10].square().sum().backward()
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.context.parameters()), kind


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="a causal encoder cannot know"):
        with_context({**ENCODERS["conformer 2x"], **CAUSAL}, "pooled")
    with pytest.raises(ValueError, match="set the section to null"):
        model_of(ENCODERS["conformer 2x"], context={"type": "pooled", "past": False})
    with pytest.raises(ValueError, match="8 is not a multiple"):
        with_context({**CONFORMER, "subsampling": {"type": "frames", "factor": 3}}, "concatenated")
    with pytest.raises(ValueError, match="codebooks"):
        with_context(ENCODERS["conformer 2x"], "pooled").encode(units(1, 9), torch.tensor([9]), units(1, 9))


def test_the_units_are_those_of_the_features_where_no_others_are_named() -> None:
    assert model_of({**ZIPFORMER, "subsampling": 2}, context={"type": "pooled"}).context.embedding.units == SPACE
