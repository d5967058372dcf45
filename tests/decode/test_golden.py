"""Hypotheses of published implementations on the same weights: see ../shared/golden/README.md."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from asr.decode.fast_beam import FastBeam
from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from asr.models.import_icefall import convert
from asr.models.transducer import Transducer
from asr.types import EncoderOut
from tests.decode.models import one_by_one

SMALL = Path(__file__).resolve().parents[1] / "golden"


def load(directory: Path, name: str):
    """(model, encoder output of all utterances, reference file)"""
    state = torch.load(directory / f"{name}.ckpt.pt", map_location="cpu", weights_only=True)
    imported = convert(state.get("model", state), json.loads((directory / f"{name}.json").read_text()))
    model = Transducer(imported.config, imported.feature_dim, imported.vocab_size)
    model.load_state_dict(imported.state)
    model.eval()
    reference = torch.load(directory / f"{name}.io.pt", map_location="cpu", weights_only=True)
    features = [f.float() for f in reference["features"]]
    lens_B = torch.tensor([len(f) for f in features])
    with torch.no_grad():
        encoder_out = model.encode(torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lens_B)
    return model, encoder_out, reference


@pytest.fixture(scope="module", params=["zipformer_offline", "zipformer_causal", "digits"])
def golden(request):
    directory = request.getfixturevalue("shared") / "golden" if request.param == "digits" else SMALL
    return load(directory, request.param)


def tokens(search, encoder_out: EncoderOut) -> list[list[int]]:
    return [list(result[0].tokens) for result in search.decode(encoder_out)]


def test_greedy(golden):
    model, encoder_out, reference = golden
    assert tokens(Greedy(Greedy.Config(), model), encoder_out) == reference["greedy"]


def test_modified_beam(golden):
    model, encoder_out, reference = golden
    search = ModifiedBeam(ModifiedBeam.Config(), model, None)
    assert tokens(search, encoder_out) == reference["modified_beam_4"]
    assert [tokens(search, alone)[0] for alone in one_by_one(encoder_out)] == reference["modified_beam_4"]


def test_fast_beam(golden):
    pytest.importorskip("k2", reason="k2 is not installed: this is the modern stack without it")
    model, encoder_out, reference = golden
    if "fast_beam_20_8_64" not in reference:
        pytest.skip("the references of this model hold no fast beam search")
    search = FastBeam(FastBeam.Config(beam=20, max_contexts=8, max_states=64, published_form=True), model, None)
    assert tokens(search, encoder_out) == reference["fast_beam_20_8_64"]
    assert [tokens(search, alone)[0] for alone in one_by_one(encoder_out)] == reference["fast_beam_20_8_64"]
