"""The transducer's lattice as its definition has it: every path written out."""
from __future__ import annotations

from typing import Iterator

import torch
from torch import Tensor

Arc = tuple[str, int, int]


def paths(frames: int, tokens: int, topology: str, frame: int = 0, token: int = 0) -> Iterator[list[Arc]]:
    """All ways from (frame, token) to (frames, tokens), each a list of (kind, frame, token) arcs."""
    if (frame, token) == (frames, tokens):
        yield []
    if frame == frames:
        return
    for rest in paths(frames, tokens, topology, frame + 1, token):
        yield [("blank", frame, token), *rest]
    if token < tokens:
        after = frame + 1 if topology == "modified" else frame
        for rest in paths(frames, tokens, topology, after, token + 1):
            yield [("label", frame, token), *rest]


def log_prob(blank_SW: Tensor, label_SW: Tensor, frames: int, tokens: int, topology: str) -> Tensor:
    """The log-probability of all paths of one utterance, differentiable; -inf where there is none."""
    arcs = {"blank": blank_SW, "label": label_SW}
    scores = [sum(arcs[kind][s, u] for kind, s, u in path) for path in paths(frames, tokens, topology)]
    if not scores:
        return blank_SW.new_full((), float("-inf"))
    return torch.stack([torch.as_tensor(score, dtype=blank_SW.dtype) for score in scores]).logsumexp(0)
