"""Hand-written gradients, and those that regularisers change on purpose."""
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

from asr.models.zipformer.activations import SWOOSH_L, SWOOSH_R, BiasNorm, Swoosh, swoosh, swoosh_linear
from asr.models.zipformer.attention import attention_weights, relative_positions
from asr.models.zipformer.dense import linear
from asr.models.zipformer.depthwise import depthwise
from asr.models.zipformer.gradients import Balancer, Limits, Whiten, balance_direction, limit
from asr.models.zipformer.perceptron import perceptron
from asr.models.zipformer.schedule import Schedule


def doubles(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("kind", [SWOOSH_L, SWOOSH_R])
def test_swoosh(kind: Swoosh) -> None:
    x = doubles(4, 5)
    expected = torch.logaddexp(torch.zeros_like(x), x - kind.shift) - 0.08 * x - kind.offset
    torch.testing.assert_close(swoosh(x, kind), expected)
    assert gradcheck(lambda x: swoosh(x, kind), x)
    scaled = torch.autograd.grad(swoosh(x, kind, grad_scale=0.2).sum(), x)[0]
    torch.testing.assert_close(scaled, 0.2 * torch.autograd.grad(swoosh(x, kind).sum(), x)[0])


@pytest.mark.parametrize("masked", [False, True])
def test_swoosh_linear(masked: bool) -> None:
    layer = nn.Linear(6, 3).double()
    x, keep = doubles(2, 4, 6), (torch.rand(2, 1, 6, dtype=torch.float64) > 0.3) / 0.7 if masked else None
    expected = F.linear(swoosh(x, SWOOSH_L) * (1.0 if keep is None else keep), layer.weight, layer.bias)
    torch.testing.assert_close(swoosh_linear(x, layer, SWOOSH_L, keep), expected)

    def of_all(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        twin = nn.Linear(6, 3)
        del twin.weight, twin.bias
        twin.weight, twin.bias = weight, bias  # type: ignore[assignment]
        return swoosh_linear(x, twin, SWOOSH_L, keep)

    assert gradcheck(of_all, (x, layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_()))


def test_bias_norm() -> None:
    norm = BiasNorm(7).double()
    x, bias, log_scale = doubles(2, 3, 7), doubles(7), doubles()
    with torch.no_grad():
        norm.bias.copy_(bias)
        norm.log_scale.copy_(log_scale)
    expected = x / (x - bias).square().mean(-1, keepdim=True).sqrt() * log_scale.exp()
    torch.testing.assert_close(norm(x, None), expected)

    def of_all(x: Tensor, bias: Tensor, log_scale: Tensor) -> Tensor:
        twin = BiasNorm(7)
        del twin.bias, twin.log_scale
        twin.bias, twin.log_scale = bias, log_scale  # type: ignore[assignment]
        return twin(x, None)

    assert gradcheck(of_all, (x, bias, log_scale))


def slow_weights(query: Tensor, key: Tensor, position: Tensor, encoding: Tensor, mask: Tensor | None) -> Tensor:
    queries, keys = query.shape[2], key.shape[2]
    scores = query @ key.transpose(2, 3)
    rows = []
    for t in range(queries):
        columns = [position[:, :, t] @ encoding[:, :, s - t + queries - 1].unsqueeze(-1) for s in range(keys)]
        rows.append(torch.cat(columns, dim=-1))
    scores = scores + torch.stack(rows, dim=2)
    return (scores if mask is None else scores.masked_fill(mask, -1000.0)).softmax(-1)


@pytest.mark.parametrize("left", [0, 2])
def test_attention_weights(left: int) -> None:
    heads, batch, queries = 2, 2, 4
    keys = queries + left
    inputs = (
        doubles(heads, batch, queries, 3), doubles(heads, batch, keys, 3), doubles(heads, batch, queries, 2),
        doubles(heads, 2, queries + keys - 1),
    )
    mask = torch.arange(keys).expand(batch, 1, keys) >= torch.tensor([keys, keys - 1]).view(batch, 1, 1)
    for hidden in (None, mask):
        torch.testing.assert_close(attention_weights(*inputs, hidden), slow_weights(*inputs, hidden))
        assert gradcheck(lambda *i, hidden=hidden: attention_weights(*i, hidden), inputs)
    assert gradcheck(lambda q, k: attention_weights(q, k, None, None, mask), inputs[:2])


def test_implausible_scores_are_restrained() -> None:
    query, key = torch.full((1, 1, 1, 1), 30.0, requires_grad=True), torch.ones(1, 1, 2, 1)
    weights = attention_weights(query, key, None, None, None, restrain=True)
    assert torch.autograd.grad(weights[..., :1].sum(), query)[0].item() == pytest.approx(2e-4, rel=1e-3)


def test_relative_positions_tell_near_offsets_apart() -> None:
    encodings = relative_positions(50, 60, 48, torch.device("cpu"))
    assert encodings.shape == (109, 48)
    zero, one, far, farther = encodings[59], encodings[60], encodings[1], encodings[0]
    assert zero[0] == 1 and zero[1] == 0 and (encodings[:, -1] == 1).all()
    assert (one - zero).norm() > 10 * (farther - far).norm()
    torch.testing.assert_close(encodings[59 + 7, 0:47:2], encodings[59 - 7, 0:47:2])


def balance_by_autograd(x: Tensor, grad: Tensor, low: float, high: float, small: float, large: float, scale: float) -> Tensor:
    """The published rule, from the loss it is the gradient of."""
    x = x.detach().requires_grad_()
    rows = x.flatten(0, -2)
    mean, square = rows.mean(0), rows.square().mean(0)
    ratio, rms = mean / (square - mean**2).clamp(min=1e-20).sqrt(), square.sqrt()
    loss = (ratio - ratio.clamp(low, high)).abs() + (rms.clamp(small, large) / rms).log().abs()
    direction = torch.autograd.grad(loss.sum(), x)[0]
    direction = direction * scale / direction.flatten(0, -2).square().mean(0).sqrt().clamp(min=1e-20)
    return grad + grad.abs() * direction


def test_balancer_changes_the_gradient_as_published() -> None:
    # channels: fine; too positive; too negative; too small; too large; too large and too positive
    scales, shifts = torch.tensor([1.0, 1, 1, 0.01, 20, 20]), torch.tensor([0.0, 3, -3, 0, 0, 50])
    x = (torch.randn(8, 50, 6) * scales + shifts).requires_grad_()
    grad = torch.randn(8, 50, 6)
    balancer = Balancer(min_positive=0.3, max_positive=0.7, min_abs=0.2, max_abs=4.0, prob=1.0)
    y = balancer(x, 0)
    torch.testing.assert_close(y, x)
    changed = torch.autograd.grad(y, x, grad)[0]
    bound = 0.8139535143 * math.atanh(0.4)
    to_rms = math.sqrt(math.pi / 2)
    expected = balance_by_autograd(x, grad, -bound, bound, 0.2 * to_rms, 4 * to_rms, 0.04)
    torch.testing.assert_close(changed, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(changed[..., 0], grad[..., 0])
    # Descending the gradient moves the mean of a channel that is too positive down.
    assert ((changed - grad)[..., 1].mean() > 0) and ((changed - grad)[..., 2].mean() < 0)


def test_balancer_survives_constant_channels() -> None:
    x = torch.stack((torch.zeros(20), torch.full((20,), 3.0)), dim=-1)
    offset, slope = balance_direction(x.mean(0), x.square().mean(0), Limits(-0.1, 0.1, 0.2, 4.0, 0.04))
    assert torch.isfinite(offset).all() and torch.isfinite(slope).all()


def test_balancer_acts_in_training_only_and_as_often_as_it_says() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    balancer = Balancer(prob=Schedule((0, 0.0), (10, 1.0)))
    assert balancer(x, None) is x and balancer(x, 0) is x and balancer(x, 10) is not x
    acted = sum(balancer(x, 5) is not x for _ in range(400))
    assert 150 < acted < 250


@pytest.mark.parametrize("groups", [1, 2])
def test_whiten_changes_the_gradient_as_published(groups: int) -> None:
    common = torch.randn(60, 1) * 5
    x = (torch.randn(60, 8) + common + 2).requires_grad_()
    grad = torch.randn(60, 8)
    whiten = Whiten(2.0, grad_scale=0.02, groups=groups, prob=1.0)
    y = whiten(x, 0)
    torch.testing.assert_close(y, x)
    changed = torch.autograd.grad(y, x, grad)[0]

    twin = x.detach().requires_grad_()
    grouped = twin.view(60, groups, -1).transpose(0, 1)
    grouped = grouped - grouped.mean(1, keepdim=True)
    covariance = grouped.transpose(1, 2) @ grouped
    metric = covariance.square().sum() / 8 / (covariance.diagonal(dim1=1, dim2=2).mean() ** 2)
    assert metric > 2
    penalty = torch.autograd.grad(metric, twin)[0]
    torch.testing.assert_close(changed, grad + 0.02 * grad.norm() / penalty.norm() * penalty, rtol=1e-3, atol=1e-4)


def test_whiten_leaves_white_data_alone() -> None:
    x, grad = torch.randn(500, 8, requires_grad=True), torch.randn(500, 8)
    torch.testing.assert_close(torch.autograd.grad(Whiten(2.0, prob=1.0)(x, 0), x, grad)[0], grad)


def test_limit_turns_the_descent_round_outside() -> None:
    x = torch.tensor([-2.0, -2.0, 0.0, 2.0, 2.0], requires_grad=True)
    grad = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0])
    changed = torch.autograd.grad(limit(x, -1.0, 1.0, 0, prob=1.0), x, grad)[0]
    assert changed.tolist() == [-1, -1, 1, 1, 1]
    assert limit(x, -1.0, 1.0, None) is x


def test_schedule() -> None:
    schedule = Schedule((10, 1.0), (20, 2.0), (40, 0.0))
    assert [schedule(step) for step in (0, 10, 15, 20, 30, 40, 99)] == [1, 1, 1.5, 2, 1, 0, 0]


@pytest.mark.parametrize(("kernel", "padding"), [((7, 7), (3, 3)), ((7, 7), (0, 3)), ((5, 1), (2, 0))])
def test_depthwise(kernel: tuple[int, int], padding: tuple[int, int]) -> None:
    x, bias = torch.randn(2, 12, 6 + kernel[1], 8, requires_grad=True), torch.randn(8, requires_grad=True)
    weight = torch.randn(8, 1, *kernel, requires_grad=True)
    expected = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=padding, groups=8).permute(0, 2, 3, 1)
    ours = depthwise(x, weight, bias, padding)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(ours)
    for fast, slow in zip(*(torch.autograd.grad(y, (x, weight, bias), grad) for y in (ours, expected))):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 63, 300, 1024, 2500])
def test_products_by_blocks(rows: int) -> None:
    layer, x = nn.Linear(128, 96), torch.randn(rows, 128, requires_grad=True)
    grad = torch.randn(rows, 96)
    inputs = (x, layer.weight, layer.bias)
    torch.testing.assert_close(linear(x, layer), layer(x), rtol=1e-4, atol=1e-4)
    for fast, slow in zip(*(torch.autograd.grad(y, inputs, grad) for y in (linear(x, layer), layer(x)))):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("violated", [False, True])
def test_perceptron(violated: bool) -> None:
    """The same as its parts, the balancer of the hidden layer included."""
    first, second = nn.Linear(16, 24), nn.Linear(24, 12)
    x, grad = torch.randn(3, 500, 16, requires_grad=True), torch.randn(3, 500, 12)
    balancer = Balancer(min_positive=0.3, max_positive=1.0, min_abs=2.0 if violated else 0.01, prob=1.0)
    ours = perceptron(x, first, second, SWOOSH_L, balancer.draw(0))
    parts = swoosh_linear(balancer(first(x), 0), second, SWOOSH_L)
    torch.testing.assert_close(ours, parts)
    inputs = (x, *first.parameters(), *second.parameters())
    for fast, slow in zip(*(torch.autograd.grad(y, inputs, grad) for y in (ours, parts))):
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-3)
