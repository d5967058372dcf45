"""Decoding graphs for k2, and the best paths of its lattices read as tokens and words with their frames. Shape legend: asr/types.py."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from asr.lang import Fst

GRAPH_SCORE = "graph_score"
"""Name of the arc attribute that keeps a decoding graph's own scores through a search."""


@dataclass(frozen=True)
class Path:
    """The best path of one utterance.

    labels: token of each frame, blanks included; words: word ids; word_frames: frame of the arc that carries each.
    score: total of the path; graph_score: what the graph itself gave of it.
    """

    labels: tuple[int, ...]
    words: tuple[int, ...]
    word_frames: tuple[int, ...]
    score: float
    graph_score: float


def decoding_graph(k2: Any, lang: Any, name: str, scale: float, device: torch.device) -> Any:
    """The graph ``name`` of a language directory as a k2.Fsa, its scores multiplied by ``scale`` and noted under ``GRAPH_SCORE``."""
    path = lang.directory / f"{name}.pt"
    modified = path.stat().st_mtime_ns if path.exists() else 0
    return _decoding_graph(k2, path, modified, scale, device)


@lru_cache(maxsize=2)
def _decoding_graph(k2: Any, path: FilePath, modified: int, scale: float, device: torch.device) -> Any:
    """Read once for all the settings of a search that are tried. modified: the file's time, so that a new file is read anew."""
    fst = Fst.load(path)
    graph = k2.arc_sort(replace(fst, scores_A=fst.scores_A * scale).to_k2().to(device))
    return keep_graph_scores(graph)


def keep_graph_scores(graph: Any) -> Any:
    """``graph`` (a k2.Fsa), with its scores noted on the arcs under ``GRAPH_SCORE``."""
    setattr(graph, GRAPH_SCORE, graph.scores.detach().clone())
    return graph


def best_paths(k2: Any, lattice: Any) -> list[Path | None]:
    """One per utterance; None where the lattice has no path. Every arc but the final one consumes one frame."""
    best = k2.shortest_path(lattice, use_double_scores=True)
    count = best.shape[0]
    utterance_A = best.arcs.row_ids(1)[best.arcs.row_ids(2).long()].long().cpu()
    labels_A, graph_A = best.labels.cpu(), getattr(best, GRAPH_SCORE).detach().double().cpu()
    arcs_B = torch.bincount(utterance_A, minlength=count)
    begin_B = arcs_B.cumsum(0) - arcs_B
    frame_A = torch.arange(len(labels_A)) - begin_B[utterance_A]
    total_B = torch.zeros(count, dtype=torch.float64).index_add_(0, utterance_A, best.scores.detach().double().cpu())
    graph_B = torch.zeros(count, dtype=torch.float64).index_add_(0, utterance_A, graph_A)
    word_W, arc_W = _words(k2, best.aux_labels)
    words = torch.stack([utterance_A[arc_W], word_W, frame_A[arc_W]]).t().tolist()

    ids: list[list[int]] = [[] for _ in range(count)]
    frames: list[list[int]] = [[] for _ in range(count)]
    for utterance, word, frame in words:
        ids[utterance].append(word)
        frames[utterance].append(frame)
    paths: list[Path | None] = []
    for b, (begin, arcs) in enumerate(zip(begin_B.tolist(), arcs_B.tolist())):
        labels = tuple(labels_A[begin : begin + arcs - 1].tolist())
        path = Path(labels, tuple(ids[b]), tuple(frames[b]), float(total_B[b]), float(graph_B[b]))
        paths.append(path if arcs else None)
    return paths


def _words(k2: Any, aux_labels: Any) -> tuple[Tensor, Tensor]:
    """(word ids, the arc that carries each), in order of arcs; arcs carry one aux label, or a list of them."""
    if isinstance(aux_labels, k2.RaggedTensor):
        word_W, arc_W = aux_labels.values.cpu().long(), aux_labels.shape.row_ids(1).cpu().long()
    else:
        word_W = aux_labels.cpu().long()
        arc_W = torch.arange(len(word_W))
    real = word_W > 0
    return word_W[real], arc_W[real]
