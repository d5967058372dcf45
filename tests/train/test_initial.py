from __future__ import annotations

import pytest
import torch

from asr.experiment import Transducer
from asr.models.conformer import Conformer
from asr.models.predictors import PREDICTORS
from asr.train.initial import initialise

OLD, NEW = ["<blk>", "a", "b", "c"], ["<blk>", "c", "x", "a", "y"]


def model(vocabulary: int, *, layers: int = 2, joiner: int = 8, seed: int = 0) -> Transducer:
    torch.manual_seed(seed)
    config = Transducer.Config(
        encoder=Conformer.Config(dim=8, layers=layers, heads=2, feedforward=8, kernel=3),
        predictor=PREDICTORS["stateless"].Config(dim=8), joiner={"dim": joiner}, ctc={},
    )
    return Transducer(config, feature_dim=20, vocab_size=vocabulary)


def test_rows_follow_their_symbols_and_the_rest_is_copied_or_kept():
    old, new, untouched = model(4, seed=1), model(5, seed=2), model(5, seed=2)
    initialise(new, old.state_dict(), symbols=NEW, state_symbols=OLD, where="exp/old")
    for name, value in new.state_dict().items():
        source, before = old.state_dict()[name], untouched.state_dict()[name]
        if source.shape == value.shape:
            assert torch.equal(value, source), name
        else:
            assert torch.equal(value[[0, 1, 3]], source[[0, 3, 1]]), name
            assert torch.equal(value[[2, 4]], before[[2, 4]]), name
    rows = {name for name, value in new.state_dict().items() if value.shape != old.state_dict()[name].shape}
    assert {name.partition(".")[0] for name in rows} == {"predictor", "joiner", "ctc"}


def test_more_layers_and_another_joiner_keep_what_was_drawn(caplog):
    old, new, untouched = model(4, seed=1), model(4, layers=3, joiner=16, seed=2), model(4, layers=3, joiner=16, seed=2)
    with caplog.at_level("INFO"):
        initialise(new, old.state_dict(), symbols=OLD, state_symbols=OLD, where="exp/old")
    state, before = new.state_dict(), untouched.state_dict()
    assert all(torch.equal(state[name], value) for name, value in old.state_dict().items() if name.startswith("encoder."))
    third = [name for name in state if name.startswith("encoder.layers.2.")]
    assert third and all(torch.equal(state[name], before[name]) for name in third)
    assert "exp/old" in caplog.text and "4 of 4 tokens" in caplog.text


def test_another_encoder_is_refused():
    with pytest.raises(ValueError, match="exp/old.*model.encoder"):
        state = {f"x{name}": value for name, value in model(4).state_dict().items()}
        initialise(model(4), state, symbols=OLD, state_symbols=OLD, where="exp/old")
