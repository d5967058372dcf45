"""Values that change with the training step, and the dice that training rolls."""
from __future__ import annotations

from bisect import bisect_right
from typing import Union

import torch


class Schedule:
    """A piecewise linear function of the training step, constant before its first and after its last point.

    points: (step, value) pairs with rising steps.
    """

    def __init__(self, *points: tuple[float, float]) -> None:
        self.steps = [float(step) for step, _ in points]
        self.values = [float(value) for _, value in points]
        assert self.steps == sorted(set(self.steps)), points

    def __call__(self, step: float) -> float:
        after = bisect_right(self.steps, step)
        if after == 0:
            return self.values[0]
        if after == len(self.steps):
            return self.values[-1]
        x0, x1 = self.steps[after - 1 : after + 1]
        y0, y1 = self.values[after - 1 : after + 1]
        return y0 + (y1 - y0) * (step - x0) / (x1 - x0)

    def __repr__(self) -> str:
        return f"Schedule({', '.join(f'({x:g}, {y:g})' for x, y in zip(self.steps, self.values))})"


Value = Union[float, Schedule]
"""A number, or a number that depends on the training step."""


def at(value: Value, step: float) -> float:
    return value(step) if isinstance(value, Schedule) else value


def chance(probability: float) -> bool:
    """Whether an event of this probability happens: from torch's CPU generator, so that its seed decides on every device."""
    return probability > 0.0 and torch.rand(()).item() < probability


DROPOUT = Schedule((0, 0.3), (20000, 0.1))
"""Dropout of the frontend's output and in feed-forward modules."""

BALANCING = Schedule((0, 0.5), (8000, 0.125))
"""How often most balancers act."""
