"""Operations on graphs by OpenFst: the only module that imports its Python interface, pywrapfst, which pynini brings.

Graphs cross over in OpenFst's binary format for vector FSTs (a header, then for each state its final weight, the number of its arcs and
these), whole arrays at a time: arc by arc, the interface takes longer than the operations themselves. A counts arcs.
"""
from __future__ import annotations

import importlib.util
import struct
from types import ModuleType
from typing import Any

import numpy as np
import torch

from asr.lang.fst import FINAL, Fst

_MAGIC, _VERSION, _EXPANDED_MUTABLE = 2125659606, 2, 3
_ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("weight", "<f4"), ("next", "<i4")])
_STATE_BYTES = 12  # final weight and number of arcs


def available() -> bool:
    return importlib.util.find_spec("pywrapfst") is not None


def compose_lg(lexicon: Fst, grammar: Fst) -> Fst:
    """L composed with G, determinised and minimised over (input, output) pairs, disambiguation symbols still on it; without arcs
    where nothing composes.

    Raises ValueError where OpenFst fails, as it does for a lexicon without the disambiguation symbols it needs.
    """
    fst = _pywrapfst()
    lg = fst.compose(to_openfst(fst, lexicon).arcsort("olabel"), to_openfst(fst, grammar).arcsort("ilabel"))
    lg = fst.determinize(lg)
    pairs = fst.EncodeMapper("standard", encode_labels=True)
    lg = lg.encode(pairs).minimize().decode(pairs)
    if lg.properties(fst.ERROR, False) == fst.ERROR:
        raise ValueError("OpenFst cannot determinise L composed with G: write the language directory again (local/prepare_lang.py)")
    return from_openfst(lg.connect())


def to_openfst(fst: ModuleType, graph: Fst) -> Any:
    """As a pywrapfst.VectorFst, costs being negated scores. The final state becomes final weights: final arcs with words have no place."""
    source_A, destination_A, label_A = graph.arcs_A3.numpy().T
    final = label_A == FINAL
    assert len(graph.outputs) == graph.num_arcs and not (graph.outputs.numpy()[final] > 0).any()
    cost_A = -graph.scores_A.numpy()
    states = graph.num_states - 1
    final_cost_S = np.full(states, np.inf, dtype=np.float32)
    np.minimum.at(final_cost_S, source_A[final], cost_A[final])
    source_A = source_A[~final]
    arcs = np.empty(len(source_A), dtype=_ARC)
    arcs["input"], arcs["output"] = label_A[~final], graph.outputs.numpy()[~final]
    arcs["weight"], arcs["next"] = cost_A[~final], destination_A[~final]
    count_S = np.bincount(source_A, minlength=states)
    head_S = np.empty(states, dtype=[("final", "<f4"), ("count", "<i8")])
    head_S["final"], head_S["count"] = final_cost_S, count_S
    body = np.empty(states * _STATE_BYTES + arcs.nbytes, dtype=np.uint8)
    is_head = np.repeat(np.tile([True, False], states), np.stack([np.full(states, _STATE_BYTES), count_S * _ARC.itemsize], axis=1).ravel())
    body[is_head], body[~is_head] = head_S.view(np.uint8), arcs.view(np.uint8)
    header = struct.pack("<i", _MAGIC) + b"".join(struct.pack("<i", len(name)) + name for name in (b"vector", b"standard"))
    header += struct.pack("<iiQqqq", _VERSION, 0, _EXPANDED_MUTABLE, 0, states, len(arcs))
    return fst.VectorFst.read_from_string(header + body.tobytes())


def from_openfst(graph: Any) -> Fst:
    """From a pywrapfst.VectorFst; its start becomes state 0."""
    content = graph.write_to_string()
    offset = 4
    for _ in range(2):
        (length,) = struct.unpack_from("<i", content, offset)
        offset += 4 + length
    version, flags, _, start, states, _ = struct.unpack_from("<iiQqqq", content, offset)
    assert version == _VERSION and flags & 3 == 0, "without symbol tables"
    body = np.frombuffer(content, dtype=np.uint8, offset=offset + struct.calcsize("<iiQqqq"))
    count_S = np.array([graph.num_arcs(state) for state in range(states)], dtype=np.int64)
    sizes = np.stack([np.full(states, _STATE_BYTES), count_S * _ARC.itemsize], axis=1).ravel()
    is_head = np.repeat(np.tile([True, False], states), sizes)
    final_cost_S = body[is_head].view([("final", "<f4"), ("count", "<i8")])["final"]
    arcs = body[~is_head].view(_ARC)
    number = np.arange(states + 1)
    if states:
        number[[0, start]] = start, 0
    ends = np.flatnonzero(np.isfinite(final_cost_S))
    source = np.concatenate([np.repeat(np.arange(states), count_S), ends])
    destination = np.concatenate([arcs["next"], np.full(len(ends), states)])
    final_labels = np.full(len(ends), FINAL)
    labels, outputs = (np.concatenate([arcs[name], final_labels]) for name in ("input", "output"))
    scores = -np.concatenate([arcs["weight"], final_cost_S[ends]])
    rows = np.stack([number[source], number[destination], labels, outputs], axis=1)
    return Fst.from_arcs(torch.from_numpy(rows), torch.from_numpy(scores))


def _pywrapfst() -> ModuleType:
    try:
        import pywrapfst
    except ImportError as error:
        raise ValueError(f"composing graphs by OpenFst needs pywrapfst, which cannot be imported ({error}): pip install pynini") from None
    return pywrapfst  # type: ignore[no-any-return]
