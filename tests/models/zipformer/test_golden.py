"""Against outputs of the published implementation (tests/golden, and ../shared/golden for the trained model)."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.models.import_icefall import convert

from .conftest import GOLDEN, Reference, load_reference


def assert_close(ours: Tensor, reference: Tensor) -> None:
    """To a relative error of 1e-5."""
    torch.testing.assert_close(ours, reference.float(), rtol=0, atol=1e-5 * reference.float().abs().max().item())


@pytest.mark.parametrize("name", ["offline", "causal"])
def test_encoder_joiner_and_ctc_are_the_published_ones(name: str, request: pytest.FixtureRequest) -> None:
    model, io = request.getfixturevalue(name)
    for index, features in enumerate(io["features"]):
        with torch.no_grad():
            out = model.encode(features.float().unsqueeze(0), torch.tensor([len(features)]))
            assert_close(out.frames_BSD[0], io["encoder_out"][index])
            assert_close(model.ctc_log_probs(out)[0], io["ctc_log_probs"][index])
            frame = model.joiner.project_encoder(out.frames_BSD[0, :1])
            predicted = torch.stack([model.joiner.project_predictor(d.float()) for d in io["decoder_out"]])[:, 0]
            assert_close(model.joiner(frame, predicted), io["joiner_logits"][index])


@pytest.mark.parametrize("name", ["offline", "causal"])
def test_padding_changes_nothing(name: str, request: pytest.FixtureRequest) -> None:
    model, io = request.getfixturevalue(name)
    lens_B = torch.tensor([len(f) for f in io["features"]])
    for value in (0.0, 100.0):
        batch = pad_sequence([f.float() for f in io["features"]], batch_first=True, padding_value=value)
        with torch.no_grad():
            out = model.encode(torch.nn.functional.pad(batch, (0, 0, 0, 5), value=value), lens_B)
        for index, reference in enumerate(io["encoder_out"]):
            assert out.lens_B[index] == len(reference)
            assert_close(out.frames_BSD[index, : len(reference)], reference)


@pytest.mark.parametrize("pieces", [7, 50, 10_000])
def test_streaming_is_the_chunked_mask_forward(causal: Reference, pieces: int) -> None:
    encoder = causal.model.encoder
    for features, reference in zip(causal.io["features"], causal.io["encoder_out"]):
        state, frames = encoder.start(1), []
        parts = features.float().unsqueeze(0).split(pieces, dim=1)
        for index, part in enumerate(parts):
            with torch.no_grad():
                out, state = encoder.step(part, state, final=index == len(parts) - 1)
            frames.append(out.frames_BSD)
        assert_close(torch.cat(frames, dim=1)[0], reference)


def test_a_trained_model(shared: Path) -> None:
    folder = shared / "golden"
    if not (folder / "digits.ckpt.pt").exists():
        pytest.skip("../shared/golden has no digits.ckpt.pt")
    model, io = load_reference(folder, "digits")
    lens_B = torch.tensor([len(f) for f in io["features"]])
    with torch.no_grad():
        out = model.encode(pad_sequence([f.float() for f in io["features"]], batch_first=True), lens_B)
    assert_close(out.frames_BSD[0, : out.lens_B[0]], io["encoder_out_0"])


def test_an_import_says_what_is_missing() -> None:
    state = torch.load(GOLDEN / "zipformer_offline.ckpt.pt", map_location="cpu", weights_only=True)["model"]
    dims = json.loads((GOLDEN / "zipformer_offline.json").read_text())
    with pytest.raises(ValueError, match="lack 'encoder_dim'"):
        convert(state, {name: value for name, value in dims.items() if name != "encoder_dim"})
    with pytest.raises(ValueError, match="query_head_dim: 6,8: only one value"):
        convert(state, {**dims, "query_head_dim": "6,8"})


def test_an_import_keeps_the_simple_joiner_for_the_loss(offline: Reference) -> None:
    state = torch.load(GOLDEN / "zipformer_offline.ckpt.pt", map_location="cpu", weights_only=True)["model"]
    imported = convert(state, json.loads((GOLDEN / "zipformer_offline.json").read_text()))
    assert set(imported.loss_state) == {f"simple_{side}_proj.{kind}" for side in ("am", "lm") for kind in ("weight", "bias")}
