"""Activation checkpointing keeps less and changes nothing."""
from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from asr.config import validate
from asr.models.transducer import Transducer

CONFORMER = {
    "type": "conformer", "dim": 16, "layers": 3, "heads": 2, "feedforward": 24, "kernel": 5, "subsampling": {"channels": 4},
    "dropout": 0.2,
}
ZIPFORMER = {
    "type": "zipformer", "layers": (1, 2, 1), "dims": (16, 24, 20), "unmasked_dims": (12, 16, 16), "feed_forward": (24, 32, 24),
    "heads": (2, 2, 2), "kernels": (15, 7, 7), "downsampling": (1, 4, 2), "query_head_dim": 6, "value_head_dim": 4, "pos_dim": 12,
    "frontend_channels": (4, 8, 16),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "conformer": CONFORMER,
    "conformer, batch norm": {**CONFORMER, "norm": "batch", "positions": "relative"},
    "conformer, causal": {**CONFORMER, "causal": True},
    "zipformer": ZIPFORMER,
    "zipformer, causal": {**ZIPFORMER, "causal": True},
}


def model_of(config: dict[str, Any], checkpointing: bool) -> Transducer:
    torch.manual_seed(0)
    values = {"encoder": config, "predictor": {"type": "stateless", "dim": 4}}
    model = Transducer(validate(Transducer.Config, values, "test"), 20, 5).train()
    if checkpointing:
        model.checkpoint_activations()
    return model


def loss_of(model: Transducer) -> Tensor:
    features = torch.randn(3, 120, 20, generator=torch.Generator().manual_seed(1))
    return model.encode(features, torch.tensor([120, 90, 33])).frames_BSD[:, :5].pow(3).mean()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_gradients_statistics_and_random_numbers(name: str) -> None:
    """At an early step of a Zipformer, where layers are skipped and gradients balanced and whitened; over several seeds."""
    plain, checkpointing = model_of(CONFIGS[name], False), model_of(CONFIGS[name], True)
    numbers: list[Tensor] = []
    for seed in range(5):
        for model in (plain, checkpointing):
            model.on_step(500)
            model.zero_grad()
            torch.manual_seed(seed)
            loss_of(model).backward()
            numbers.append(torch.rand(()))
        assert torch.equal(numbers[-2], numbers[-1])
        for (parameter, one), other in zip(plain.named_parameters(), checkpointing.parameters()):
            assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad), parameter
        for (buffer, one), other in zip(plain.named_buffers(), checkpointing.buffers()):
            assert torch.equal(one, other), buffer


@pytest.mark.parametrize("name", ["conformer", "zipformer"])
def test_little_is_kept_for_the_backward_pass(name: str) -> None:
    def kept(model: Transducer) -> int:
        sizes = []

        def note(x: Tensor) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss_of(model)
        return sum(sizes)

    assert kept(model_of(CONFIGS[name], True)) < kept(model_of(CONFIGS[name], False)) / 5


def test_an_encoder_without_it_says_so() -> None:
    model = model_of(CONFORMER, False)
    model.encoder = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no activation checkpointing"):
        model.checkpoint_activations()
