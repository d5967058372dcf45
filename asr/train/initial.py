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
def initialise(model: nn.Module, state: Mapping[str, Tensor], *, symbols: Sequence[str], state_symbols: Sequence[str], where: str) -> None:
    """Copies into ``model`` what fits of ``state``, whose tokens are ``state_symbols``; the rest stays as it was drawn.

    Reports what was taken. Raises ValueError where nothing of the encoder fits.
    """
    rows = [(new, state_symbols.index(symbol)) for new, symbol in enumerate(symbols) if symbol in set(state_symbols)]
    new_rows, old_rows = (torch.tensor(column) for column in zip(*rows)) if rows else (torch.tensor([]), torch.tensor([]))
    taken: Counter[str] = Counter()
    own = model.state_dict()
    for name, target in own.items():
        source = state.get(name)
        part = name.partition(".")[0]
        if source is None or source.shape[1:] != target.shape[1:] or source.dim() != target.dim():
            continue
        per_token = source.dim() > 0 and (len(source), len(target)) == (len(state_symbols), len(symbols))
        if per_token and part not in ("encoder", "frontend", "context") and rows:
            target[new_rows] = source[old_rows].to(target)
        elif source.shape == target.shape:
            target.copy_(source)
        else:
            continue
        taken[part] += 1
    total = Counter(name.partition(".")[0] for name in own)
    summary = ", ".join(f"{part} {taken[part]} of {count}" for part, count in total.items())
    if not taken["encoder"]:
        raise ValueError(f"init_from: {where}: no tensor of its encoder fits this model's; make model.encoder that of its config.yaml")
    log.info("from %s: %s tensors; %d of %d tokens", where, summary, len(rows), len(symbols))
