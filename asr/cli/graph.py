"""What a decoding graph is: states, arcs, labels, memory, determinism; and small ones as a picture.

    asr graph info data/lang_char                            # every graph of a language directory
    asr graph info data/lang_char/LG.pt --draw LG.svg
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from asr.files import atomic_write
from asr.lang import Fst, Lang
from asr.lang.drawing import svg
from asr.lang.fst import FINAL
from asr.lang.operations import unconnected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["info"])
    parser.add_argument("graph", type=Path, help="a graph file, or a language directory for all of its graphs")
    parser.add_argument("--draw", type=Path, metavar="FILE.svg", help="write a picture of the one graph, which must be small")


def run(args: argparse.Namespace) -> None:
    paths = sorted(args.graph.glob("*.pt")) if args.graph.is_dir() else [args.graph]
    if not paths:
        raise ValueError(f"{args.graph}: there are no graphs here; the recipe's stages 4 and 5 make them")
    if args.draw and len(paths) != 1:
        raise ValueError(f"--draw wants one graph: name one of {', '.join(str(path) for path in paths)}")
    for path in paths:
        graph = Fst.load(path)
        print(f"{path}\n{describe(graph)}")
        if args.draw:
            lang = Lang(path.parent)
            disambiguation = [f"#{k}" for k in range(int(graph.arcs_A3[:, 2].max()) + 1 - len(lang.tokens))]
            with atomic_write(args.draw) as file:
                file.write(svg(graph, [*lang.tokens, *disambiguation], lang.words, path.name))
            print(f"  picture         {args.draw}")


def describe(graph: Fst) -> str:
    """A line per property."""
    source, _, label = graph.arcs_A3.numpy().T
    told = graph.outputs.numpy()
    fan_out = np.bincount(source, minlength=max(graph.num_states, 1))
    twice = len(source) - len(np.unique(source.astype(np.int64) * (1 << 32) + label))
    useless = int(unconnected(graph).sum()) if graph.num_arcs else 0
    rows = {
        "states": f"{graph.num_states:,}" + (f", {useless:,} of them on no path" if useless else ""),
        "arcs": f"{graph.num_arcs:,}, {int((label == FINAL).sum()):,} of them to the end; at most {int(fan_out.max()):,} from a state",
        "input labels": f"{len(np.unique(label[label != FINAL])):,} different, {int((label == 0).sum()):,} arcs with label 0",
        "output words": f"{len(np.unique(told[told > 0])):,} different, on {int((told > 0).sum()):,} places",
        "deterministic": "yes" if twice == 0 else f"no: {twice:,} arcs share state and label with another",
        "memory": f"{sum(t.numel() * t.element_size() for t in vars(graph).values()) / 2**20:,.1f} MiB",
    }
    return "\n".join(f"  {name:<15} {value}" for name, value in rows.items())
