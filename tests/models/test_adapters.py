"""Adapters and LoRA: nothing at first, a small part of the parameters, exact when merged, and the rest never moves."""
from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from asr.config import validate
from asr.models.adapters import load_trained, merge, trained_state, tune
from asr.models.transducer import Transducer
from asr.train import TrainConfig

ENCODERS: dict[str, dict[str, Any]] = {
    "conformer": {"type": "conformer", "dim": 16, "layers": 2, "heads": 2, "feedforward": 32, "kernel": 3, "norm": "batch"},
    "streaming": {"type": "conformer", "dim": 16, "layers": 2, "heads": 2, "feedforward": 16, "kernel": 3, "causal": True,
                  "decode_chunk_size": 4, "decode_left_frames": 8, "dropout": 0.0},
    "zipformer": {"type": "zipformer", "size": "mini"},
}
TUNES = [{"type": "adapters", "rank": 2}, {"type": "lora", "rank": 2}]


def model(encoder: str = "conformer") -> Transducer:
    torch.manual_seed(0)
    config = {"encoder": ENCODERS[encoder], "predictor": {"type": "stateless", "dim": 8}, "joiner": {"dim": 8}, "ctc": {}}
    return Transducer(validate(Transducer.Config, config, "test"), 20, 7)


def tuned(encoder: str, config: dict[str, Any]) -> Transducer:
    """With changes that are not zero any more."""
    changed = model(encoder)
    tune(changed, tune_config(**config))
    for parameter in changed.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return changed.eval()


def tune_config(**values: Any) -> Any:
    return validate(TrainConfig, {"init_from": "exp/base", "tune": values}, "test").tune


def encoded(of: Transducer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return of.encode(torch.randn(2, 120, 20, generator=generator), torch.tensor([120, 90])).frames_BSD.detach()


@pytest.mark.parametrize("config", TUNES, ids=lambda config: config["type"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_it_starts_as_no_change_and_then_is_one(encoder: str, config: dict[str, Any]) -> None:
    base, changed = model(encoder).eval(), model(encoder).eval()
    tune(changed, tune_config(**config))
    assert torch.equal(encoded(changed), encoded(base))
    assert not torch.allclose(encoded(tuned(encoder, config)), encoded(base), atol=1e-3)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_merged_low_rank_changes_give_the_same_frames_from_a_plain_model(encoder: str) -> None:
    changed = tuned(encoder, {"type": "lora", "rank": 3, "alpha": 5.0})
    before = encoded(changed)
    for module in list(changed.modules()):
        if hasattr(module, "parametrizations"):
            inner = module.parametrizations["weight"]
            by_hand = inner.original + 5.0 / 3 * inner[0].up_OR @ inner[0].down_RI
            assert torch.allclose(module.weight, by_hand, atol=1e-6)
    merge(changed)
    assert torch.allclose(encoded(changed), before, atol=1e-6, rtol=0)
    plain = model(encoder)
    assert plain.state_dict().keys() == changed.state_dict().keys()
    plain.load_state_dict(changed.state_dict())
    assert torch.equal(encoded(plain.eval()), encoded(changed))


@pytest.mark.parametrize("config", TUNES, ids=lambda config: config["type"])
def test_its_state_is_what_is_trained_and_makes_the_same_model(config: dict[str, Any]) -> None:
    changed = tuned("conformer", {**config, "full": ["ctc"]})
    state = trained_state(changed)
    assert not any(name.startswith("encoder.frontend") or name.endswith("query_key_value.weight") for name in state)
    assert {"ctc.output_linear.weight", "encoder.layers.0.convolution.norm.running_mean"} <= state.keys()
    other = model()
    tune(other, tune_config(**config, full=["ctc"]))
    load_trained(other, copy.deepcopy(state))
    assert torch.equal(encoded(other.eval()), encoded(changed))
    with pytest.raises(RuntimeError, match="ctc.output_linear"):
        load_trained(other, {name: value for name, value in state.items() if not name.startswith("ctc")})


@pytest.mark.parametrize("config", TUNES, ids=lambda config: config["type"])
def test_in_a_stream_it_is_the_same(config: dict[str, Any]) -> None:
    changed = tuned("streaming", config)
    features = torch.randn(1, 150, 20, generator=torch.Generator().manual_seed(2))
    whole = changed.encode(features, torch.tensor([150])).frames_BSD
    state = changed.encoder.start(1)
    first, state = changed.encoder.step(features[:, :70], state)
    last, _ = changed.encoder.step(features[:, 70:], state, final=True)
    assert torch.allclose(torch.cat([first.frames_BSD, last.frames_BSD], dim=1), whole, atol=1e-4)


def test_the_size_of_adapters_is_a_fraction_of_a_per_cent() -> None:
    config = {"encoder": {"type": "conformer"}, "predictor": {"type": "stateless"}, "ctc": {}}
    large = Transducer(validate(Transducer.Config, config, "test"), 80, 500)
    before = sum(parameter.numel() for parameter in large.parameters())
    tune(large, tune_config(type="adapters", rank=8))
    trained = sum(parameter.numel() for parameter in large.parameters() if parameter.requires_grad)
    assert 0.002 < trained / before < 0.005


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"train.tune.modules: no module of the model matches 'decoder'.*encoder, predictor"):
        tune(model(), tune_config(type="lora", modules=["decoder"]))
    with pytest.raises(ValueError, match="no adapter fits behind joiner"):
        tune(model(), tune_config(type="adapters", modules=["joiner"]))
    with pytest.raises(ValueError, match="ctc.output_linear.weight would neither .* add ctc.output_linear to train.tune.full"):
        tune(model(), tune_config(type="lora"), fresh=("ctc.output_linear.weight",))
    tune(model(), tune_config(type="lora", full=["ctc"]), fresh=("ctc.output_linear.weight",))
    with pytest.raises(ValueError, match="init_from"):
        validate(TrainConfig, {"tune": {"type": "lora"}}, "test")
