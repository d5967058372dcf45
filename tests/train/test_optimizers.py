from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from asr.config import Config, validate
from asr.train.clipping import HistoryClipping, NormClipping
from asr.train.optimizers import MAX_RMS, MIN_RMS, OPTIMIZERS, SCALAR_LR, AdamW, OptimizerConfig, ScaledAdam

SHAPES = [(3, 4), (12,), (4, 3), (5,), (5,), (2, 3, 2), (1,), ()]


def parameters(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def set_gradients(params: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)


class SlowScaledAdam:
    """The paper's equations (4) to (7), one parameter at a time, in float64."""

    def __init__(self, config: ScaledAdam.Config, params: list[nn.Parameter]) -> None:
        self.config, self.params, self.t = config, [p.detach().double() for p in params], 0
        self.moments = [{name: torch.zeros((), dtype=torch.float64) for name in "mvnw"} for _ in params]

    def step(self, gradients: list[torch.Tensor]) -> None:
        self.t += 1
        config, (beta1, beta2) = self.config, self.config.betas
        correction = math.sqrt(1 - beta2**self.t) / (1 - beta1**self.t)
        for theta, gradient, moments in zip(self.params, gradients, self.moments):
            g = gradient.double()
            moments["m"] = beta1 * moments["m"] + (1 - beta1) * g
            moments["v"] = beta2 * moments["v"] + (1 - beta2) * g**2
            adam = -config.lr * correction * moments["m"] / (moments["v"].sqrt() + config.eps)
            if theta.numel() == 1:
                theta += SCALAR_LR * adam
                continue
            r = theta.pow(2).mean().sqrt().clamp(min=MIN_RMS)
            h = (g * theta / r).sum()
            moments["n"] = beta1 * moments["n"] + (1 - beta1) * h
            moments["w"] = beta2 * moments["w"] + (1 - beta2) * h**2
            scale = -config.scale_lr * config.lr * correction * moments["n"] / (moments["w"].sqrt() + config.eps)
            theta += r * adam + scale * theta


def test_scaled_adam_equals_its_slow_twin():
    config = ScaledAdam.Config(lr=0.05)
    params = parameters()
    slow, fast = SlowScaledAdam(config, params), ScaledAdam(config, params)
    for step in range(20):
        set_gradients(params, step)
        slow.step([p.grad for p in params])
        fast.step()
    for p, expected in zip(params, slow.params):
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_scaled_adam_moves_parameters_in_proportion_to_their_size():
    small = nn.Parameter(torch.randn(6, 7, generator=torch.Generator().manual_seed(0)))
    large = nn.Parameter(0.01 * small.detach())
    together = ScaledAdam(ScaledAdam.Config(), [small, large])
    before = [small.detach().clone(), large.detach().clone()]
    for step in range(5):
        gradient = torch.randn(6, 7, generator=torch.Generator().manual_seed(step))
        small.grad, large.grad = gradient, gradient.clone()
        together.step()
    torch.testing.assert_close((small - before[0]) * 0.01, large - before[1], rtol=1e-3, atol=1e-7)


def test_scaled_adam_lets_zeros_grow_and_bounds_the_size():
    zero, huge = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.full((8, 8), 2 * MAX_RMS))
    optimizer = ScaledAdam(ScaledAdam.Config(), [zero, huge])
    for step in range(200):
        zero.grad = -torch.ones(4, 4)
        huge.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    assert zero.mean() > 10 * MIN_RMS
    assert huge.pow(2).mean().sqrt() < 1.5 * MAX_RMS


def test_a_missing_gradient_counts_as_zero():
    one, other = parameters(), parameters()
    optimizers = [ScaledAdam(ScaledAdam.Config(), params) for params in (one, other)]
    for params, optimizer in zip((one, other), optimizers):
        set_gradients(params, 3)
        params[0].grad = torch.zeros_like(params[0]) if params is one else None
        optimizer.step()
    for p, q in zip(one, other):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_every_optimizer_fits_a_line(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    cls = OPTIMIZERS[kind]
    optimizer = cls(cls.Config(lr=0.03), model.parameters())
    inputs = torch.randn(64, 4)
    targets = inputs @ torch.tensor([[1.0], [-1.0], [0.5], [0.0]])
    losses = []
    for _ in range(150):
        optimizer.zero_grad(set_to_none=True)
        loss = (model(inputs) - targets).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_restored_state_continues_bit_for_bit(kind):
    cls = OPTIMIZERS[kind]
    params = parameters()
    optimizer = cls(cls.Config(), params)
    for step in range(3):
        set_gradients(params, step)
        optimizer.step()
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    restored = cls(cls.Config(), copies)
    restored.load_state_dict({**restored.state_dict(), "state": copy.deepcopy(optimizer.state_dict()["state"])})
    for each, own in ((optimizer, params), (restored, copies)):
        for step in range(3, 6):
            set_gradients(own, step)
            each.step()
    for p, q in zip(params, copies):
        assert torch.equal(p, q)


def test_adamw_decays_matrices_only():
    matrix, vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = AdamW(AdamW.Config(lr=0.1, weight_decay=0.5), [matrix, vector])
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert torch.equal(vector, torch.ones(2))
    assert torch.allclose(matrix, torch.full((2, 2), 0.95))


def test_history_clips_at_a_multiple_of_the_median():
    clipping = HistoryClipping(HistoryClipping.Config(scale=2.0, window=10))
    for norm in range(1, 11):  # median 5.5
        assert clipping.coefficient(float(norm)) == 1.0
    assert clipping.coefficient(22.0) == pytest.approx(11 / 22)
    assert clipping.coefficient(12.0) == 1.0  # the window has moved on: 2 .. 10 and 22, median 6.5
    restored = HistoryClipping(HistoryClipping.Config(scale=2.0, window=10))
    restored.load_state_dict(clipping.state_dict())
    assert restored.coefficient(100.0) == clipping.coefficient(100.0) < 1


def test_norms_are_what_they_say():
    params = parameters()
    set_gradients(params, 1)
    flat = torch.cat([p.grad.reshape(-1) for p in params])
    relative = torch.cat([(p.grad * p.detach().pow(2).mean().sqrt()).reshape(-1) for p in params])
    torch.testing.assert_close(NormClipping(NormClipping.Config()).norm(params), flat.norm())
    torch.testing.assert_close(HistoryClipping(HistoryClipping.Config()).norm(params), relative.norm())


def test_an_unknown_optimizer_is_answered_with_the_known_ones():
    class Holder(Config):
        optimizer: OptimizerConfig

    with pytest.raises(ValueError, match="scaled_adam.*adamw"):
        validate(Holder, {"optimizer": {"type": "adam"}}, "test")
