"""Starting from the weights of another experiment: another corpus, other tokens, a part that is new.

Tensors are matched by name and shape. Those that have one row per token (the predictor's embedding, the output layers) are
matched row by row, by the tokens' symbols, so that the vocabularies may differ.
"""
from __future__ import annotations

import logging
from collections import Counter
from typing import Mapping, Sequence

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


@torch.no_grad()
def initialise(
    model: nn.Module, state: Mapping[str, Tensor], *, symbols: Sequence[str], state_symbols: Sequence[str], where: str
) -> tuple[str, ...]:
    """Copies into ``model`` what fits of ``state``, whose tokens are ``state_symbols``; the rest stays as it was drawn.

    Reports what was taken, and gives the names of tensors that were not, or not for every token. Raises ValueError where nothing of
    the encoder fits.
    """
    old_ids = {symbol: token for token, symbol in enumerate(state_symbols)}
    rows = [(token, old_ids[symbol]) for token, symbol in enumerate(symbols) if symbol in old_ids]
    taken: Counter[str] = Counter()
    fresh = []
    own = model.state_dict()
    for name, target in own.items():
        source = state.get(name)
        part = name.partition(".")[0]
        others = len(getattr(model, "durations", ())) if name.startswith("joiner.output_linear.") else 0  # rows behind those of tokens
        sizes = len(state_symbols) + others, len(symbols) + others
        whole = False
        if source is not None and source.shape[1:] == target.shape[1:] and source.dim() == target.dim():
            if source.dim() and (len(source), len(target)) == sizes and part not in ("encoder", "frontend", "context") and rows:
                pairs = [*rows, *((len(symbols) + k, len(state_symbols) + k) for k in range(others))]
                new_rows, old_rows = torch.tensor(pairs).T
                target[new_rows] = source[old_rows].to(target)
                taken[part] += 1
                whole = len(rows) == len(symbols)
            elif source.shape == target.shape:
                target.copy_(source)
                taken[part] += 1
                whole = True
        if not whole:
            fresh.append(name)
    if not taken["encoder"]:
        raise ValueError(f"init_from: {where}: no tensor of its encoder fits this model's; make model.encoder that of its config.yaml")
    total = Counter(name.partition(".")[0] for name in own)
    summary = ", ".join(f"{part} {taken[part]} of {count}" for part, count in total.items())
    log.info("from %s: %s tensors; %d of %d tokens", where, summary, len(rows), len(symbols))
    if len(rows) < len(symbols):
        log.info("new tokens: %s", _some([symbol for symbol in symbols if symbol not in old_ids]))
    if fresh:
        log.info("new, for some tokens at least: %s", _some(fresh))
    return tuple(fresh)


def _some(names: Sequence[str], most: int = 30) -> str:
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
