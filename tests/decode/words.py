"""A tokenizer of six tokens, enumerated token sequences, and what scorers make of them, for the tests of scorers that know words."""
from __future__ import annotations

import itertools
from typing import Any

import torch

from asr.tokens.char import CharTokenizer

TOKENIZER = CharTokenizer(CharTokenizer.Config(boundary="attached"), ["<blk>", "<unk>", "▁a", "▁b", "a", "b"])
BEGINS = {2, 3}


def sequences(longest: int) -> list[tuple[int, ...]]:
    """All of up to so many tokens."""
    return [s for n in range(longest + 1) for s in itertools.product(range(1, TOKENIZER.vocab_size), repeat=n)]


def totals(scorer: Any, all_sequences: list[tuple[int, ...]]) -> list[float]:
    """What ``scorer`` adds up to on each, the end included; sequences of one length together."""
    results: dict[tuple[int, ...], float] = {}
    for length, group in itertools.groupby(all_sequences, key=len):
        rows = list(group)
        tokens_NU = torch.tensor(rows, dtype=torch.int64).view(len(rows), length)
        scores_NV, state = scorer.start(len(rows), "cpu")
        total_N = torch.zeros(len(rows))
        for u in range(length):
            assert scores_NV[:, 0].tolist() == [0.0] * len(rows)
            total_N += scores_NV.gather(1, tokens_NU[:, u : u + 1])[:, 0]
            scores_NV, state = scorer.step(tokens_NU[:, u], state)
        results.update(zip(rows, (total_N + scorer.final(state)).tolist()))
    return [results[sequence] for sequence in all_sequences]
