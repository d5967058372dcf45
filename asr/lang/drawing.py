"""Small graphs as SVG pictures, without other programs: states in layers by their distance from the start, arcs as labelled curves.

Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981, in its simplest form: layers by
breadth-first search, and the order within a layer by the mean place of the neighbours one layer before.
"""
from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape

from asr.lang.fst import FINAL, Fst

LARGEST = 300
"""Arcs of a graph that can be drawn readably."""
COLUMN, ROW, RADIUS = 150, 80, 16

Place = tuple[float, float]


def svg(graph: Fst, inputs: Sequence[str], outputs: Sequence[str], title: str) -> str:
    """inputs, outputs: symbols of the labels; ``input:output/score`` stands on each arc. Raises ValueError for graphs too large to read."""
    if graph.num_arcs > LARGEST:
        raise ValueError(f"{title} has {graph.num_arcs} arcs; more than {LARGEST} cannot be drawn readably")
    texts: dict[tuple[int, int], list[str]] = defaultdict(list)
    for arc, (source, target, label) in enumerate(graph.arcs_A3.tolist()):
        told = graph.outputs[int(graph.splits[arc]) : int(graph.splits[arc + 1])].tolist()
        words = " ".join(outputs[word] for word in told if word > 0)
        score = float(graph.scores_A[arc])
        symbol = "end" if label == FINAL else inputs[label]
        texts[source, target].append(symbol + (f":{words}" if words else "") + (f"/{score:.2f}" if abs(score) > 5e-3 else ""))
    places = _places(graph.num_states, sorted(texts))
    width = COLUMN + max(x for x, _ in places)
    height = ROW + max(y for _, y in places)
    parts = [_arc(places[source], places[target], lines) for (source, target), lines in texts.items()]
    parts += [_state(state, place, final=state == graph.num_states - 1) for state, place in enumerate(places)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -30 {width:.0f} {height + 30:.0f}" width="{width:.0f}" '
        'font-family="sans-serif" font-size="11" text-anchor="middle">\n'
        f"<title>{escape(title)}</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#555"/></marker></defs>\n'
        f'<rect y="-30" width="100%" height="100%" fill="white"/>\n{chr(10).join(parts)}\n</svg>\n'
    )


def _places(states: int, arcs: Sequence[tuple[int, int]]) -> list[Place]:
    layer = {0: 0}
    layers: list[list[int]] = [[0]]
    while reached := sorted({target for source, target in arcs if source in layers[-1] and target not in layer}):
        layer.update(dict.fromkeys(reached, len(layers)))
        layers.append(reached)
    assert len(layer) == states, "connected"
    before = defaultdict(list)
    for source, target in arcs:
        if layer[source] < layer[target]:
            before[target].append(source)
    place: dict[int, Place] = {}
    tallest = max(map(len, layers))
    for x, column in enumerate(layers):
        column.sort(key=lambda state: sum(place[s][1] for s in before[state]) / max(len(before[state]), 1))
        for y, state in enumerate(column):
            place[state] = COLUMN * (x + 0.5), ROW * (0.75 + y + (tallest - len(column)) / 2)
    return [place[state] for state in range(states)]


def _state(state: int, place: Place, final: bool) -> str:
    x, y = place
    weight = 3 if state == 0 else 1
    circle = f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS}" fill="white" stroke="black" stroke-width="{weight}"/>'
    if final:
        circle += f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS - 4}" fill="none" stroke="black"/>'
    return f'{circle}<text x="{x:.0f}" y="{y + 4:.0f}">{state}</text>'


def _arc(begin: Place, end: Place, lines: Sequence[str]) -> str:
    """One curve for all arcs between two states, their texts above each other. Ways back and over several layers bend away."""
    (x, y), (u, v) = begin, end
    if begin == end:
        path = f"M{x - 8:.0f},{y - 14:.0f} C{x - 30:.0f},{y - 50:.0f} {x + 30:.0f},{y - 50:.0f} {x + 8:.0f},{y - 14:.0f}"
        middle = (x, y - 44)
    else:
        length = ((u - x) ** 2 + (v - y) ** 2) ** 0.5
        ahead, aside = ((u - x) / length, (v - y) / length), ((v - y) / length, (x - u) / length)
        bend = 12.0 if 0 < u - x <= COLUMN else 20.0 + 0.15 * length
        control = ((x + u) / 2 + 2 * bend * aside[0], (y + v) / 2 + 2 * bend * aside[1])
        start = x + RADIUS * ahead[0], y + RADIUS * ahead[1]
        stop = u - RADIUS * ahead[0], v - RADIUS * ahead[1]
        path = f"M{start[0]:.0f},{start[1]:.0f} Q{control[0]:.0f},{control[1]:.0f} {stop[0]:.0f},{stop[1]:.0f}"
        middle = ((x + u) / 2 + bend * aside[0], (y + v) / 2 + bend * aside[1])
    shown = list(lines) if len(lines) <= 4 else [*lines[:3], f"... {len(lines) - 3} more"]
    rows = [f'<tspan x="{middle[0]:.0f}" y="{middle[1] - 3 - 12 * k:.0f}">{escape(line)}</tspan>' for k, line in enumerate(reversed(shown))]
    halo = 'stroke="white" stroke-width="3" paint-order="stroke"'
    return f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#head)"/><text {halo}>{"".join(rows)}</text>'
