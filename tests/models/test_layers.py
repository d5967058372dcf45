"""The fast layers compute what torch's do."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from asr.models.layers import IMAGES, MIN_FIXED_WORK, MIN_ROWS, Dropout, FixedLinear, Linear, fixed

SHAPES = [(MIN_ROWS - 1,), (MIN_ROWS,), (MIN_ROWS + 1,), (IMAGES, 40), (7, 41), (9, 5, 7), (1, 1000), (0,), (3, 0)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_is_linear(shape, bias):
    torch.manual_seed(0)
    fast = Linear(12, 20, bias=bias)
    slow = nn.Linear(12, 20, bias=bias)
    slow.load_state_dict(fast.state_dict())
    x_fast = torch.randn(*shape, 12, requires_grad=True)
    x_slow = x_fast.detach().clone().requires_grad_()
    out_fast, out_slow = fast(x_fast), slow(x_slow)
    torch.testing.assert_close(out_fast, out_slow)
    weights = torch.randn_like(out_slow)
    (out_fast * weights).sum().backward()
    (out_slow * weights).sum().backward()
    torch.testing.assert_close(x_fast.grad, x_slow.grad)
    for a, b in zip(fast.parameters(), slow.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def test_linear_takes_inputs_that_are_not_contiguous():
    layer = Linear(12, 20)
    x = torch.randn(12, 300).t()
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (15,), (16,), (3, 50), (0, 4), (400,)], ids=str)
def test_fixed_linear_is_linear(shape, bias):
    torch.manual_seed(0)
    linear = Linear(256, MIN_FIXED_WORK // 256 // 16, bias=bias)
    x = torch.randn(*shape, 256)
    torch.testing.assert_close(FixedLinear(linear)(x), nn.functional.linear(x, linear.weight, linear.bias), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_fixed_module_keeps_its_function_when_the_weights_change():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Linear(512, 512), nn.Linear(512, 3)

        def forward(self, x):
            return self.second(self.first(x))

    torch.manual_seed(0)
    module, x = Two(), torch.randn(40, 512)
    expected, copied = module(x), fixed(module)
    module.first.weight.zero_()
    torch.testing.assert_close(copied(x), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(module(x), expected, atol=1e-2)
    half = Two().double()
    assert fixed(half) is half


def test_traced_linear_is_a_matrix_product():
    layer = Linear(12, 20)
    graph = str(torch.jit.trace(layer, torch.randn(2, MIN_ROWS, 12)).graph)
    assert "aten::linear" in graph and "conv" not in graph


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_dropout_drops_the_right_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(1001, 999, requires_grad=True)
    out = Dropout(p)(x)
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=3e-3)
    assert float(out.detach().mean()) == pytest.approx(1.0, abs=3e-3)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert Dropout(p).eval()(x) is x


def test_dropout_decides_each_value_alone():
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(100_000, 8)) == 0).float()
    correlation = torch.corrcoef(dropped.t()) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.02
