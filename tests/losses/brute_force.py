"""The transducers' lattices as their definitions have them: every path written out."""
from __future__ import annotations

from typing import Iterator

import torch
from torch import Tensor

Arc = tuple[str, int, int]
TdtArc = tuple[str, int, int, int]


def paths(frames: int, tokens: int, topology: str, frame: int = 0, token: int = 0) -> Iterator[list[Arc]]:
    """All ways from (frame, token) to (frames, tokens), each a list of (kind, frame, token) arcs."""
    if (frame, token) == (frames, tokens):
        yield []
    if frame == frames:
        return
    for rest in paths(frames, tokens, topology, frame + 1, token):
        yield [("blank", frame, token), *rest]
    if token < tokens:
        after = frame if topology == "regular" else frame + 1
        forced = [("blank", frame, token + 1)] if topology == "constrained" else []
        for rest in paths(frames, tokens, topology, after, token + 1):
            yield [("label", frame, token), *forced, *rest]


def tdt_paths(frames: int, tokens: int, durations: tuple[int, ...], frame: int = 0, token: int = 0) -> Iterator[list[TdtArc]]:
    """The same for TDT, of (kind, frame, token, index of the duration) arcs. Only a blank leads to the end."""
    for index, duration in enumerate(durations):
        after = frame + duration
        if duration > 0 and (after, token) == (frames, tokens):
            yield [("blank", frame, token, index)]
        if duration > 0 and after < frames:
            for rest in tdt_paths(frames, tokens, durations, after, token):
                yield [("blank", frame, token, index), *rest]
        if token < tokens and after < frames:
            for rest in tdt_paths(frames, tokens, durations, after, token + 1):
                yield [("label", frame, token, index), *rest]


def scores(blank_SW: Tensor, label_SW: Tensor, frames: int, tokens: int, topology: str) -> list[tuple[Tensor, list[Arc]]]:
    """Every path of one utterance, with its log-probability."""
    arcs = {"blank": blank_SW, "label": label_SW}
    return [
        (torch.stack([blank_SW.new_zeros(()), *(arcs[kind][s, u] for kind, s, u in path)]).sum(), path)
        for path in paths(frames, tokens, topology)
    ]


def tdt_scores(
    blank_SW: Tensor, label_SW: Tensor, duration_LSW: Tensor, frames: int, tokens: int, durations: tuple[int, ...]
) -> list[tuple[Tensor, list[TdtArc]]]:
    arcs = {"blank": blank_SW, "label": label_SW}
    return [
        (torch.stack([arcs[kind][s, u] + duration_LSW[index, s, u] for kind, s, u, index in path]).sum(), path)
        for path in tdt_paths(frames, tokens, durations)
    ]


def log_prob(blank_SW: Tensor, label_SW: Tensor, frames: int, tokens: int, topology: str) -> Tensor:
    """The log-probability of all paths of one utterance, differentiable; -inf where there is none."""
    return _total([score for score, _ in scores(blank_SW, label_SW, frames, tokens, topology)], blank_SW)


def tdt_log_prob(
    blank_SW: Tensor, label_SW: Tensor, duration_LSW: Tensor, frames: int, tokens: int, durations: tuple[int, ...]
) -> Tensor:
    return _total([score for score, _ in tdt_scores(blank_SW, label_SW, duration_LSW, frames, tokens, durations)], blank_SW)


def _total(found: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(found).logsumexp(0) if found else like.new_full((), float("-inf"))
