"""ARPA files: back-off n-gram models as text. Probabilities and back-off weights are log10; every order of any size."""
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asr.files import atomic_write
from asr.lm.ngram import BOS, EOS, NgramLm, Order


def write_arpa(lm: NgramLm, path: Path) -> None:
    """Writes the model, each order's n-grams sorted as in ``lm``; deterministic, with seven decimals."""
    with atomic_write(path) as file:
        file.write("\n\\data\\\n")
        file.writelines(f"ngram {n}={len(order)}\n" for n, order in enumerate(lm.orders, 1))
        spelled = [""]
        for n, order in enumerate(lm.orders, 1):
            file.write(f"\n\\{n}-grams:\n")
            last = [lm.words[word] for word in order.word.tolist()]
            spelled = last if n == 1 else [f"{spelled[h]} {word}" for h, word in zip(order.history.tolist(), last)]
            rows = zip(order.log_prob.tolist(), spelled, order.backoff.tolist())
            for log_prob, ngram, backoff in tqdm(rows, f"writing {n}-grams", len(order), leave=False, delay=3):
                weight = f"\t{backoff:.7f}" if n < lm.order else ""
                file.write(f"{log_prob:.7f}\t{ngram}{weight}\n")
        file.write("\n\\end\\\n")


class _Lines:
    """Numbered lines of a file, one look ahead, blank ones left out."""

    def __init__(self, path: Path, file: Iterator[str]) -> None:
        self.path = path
        self.number = 0
        self.line: str | None = ""
        self._file = enumerate(file, 1)
        self.next()

    def next(self) -> None:
        self.line = None
        for number, line in self._file:
            self.number = number
            if line.strip():
                self.line = line.strip()
                return

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}:{self.number}: {problem}")


def read_arpa(path: Path) -> NgramLm:
    """Reads and validates a model of any order; its n-grams may come in any sequence.

    Raises ValueError with file and line: for what is not an ARPA file, numbers that are none or are positive log-probabilities, wrong
    counts, n-grams with words that are no unigrams, duplicates, n-grams whose history is not in the model, a missing end.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return _read(_Lines(path, file))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such ARPA file; run local/train_ngram.py, which estimates one") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason}); is it compressed or a binary model?") from None


def _read(lines: _Lines) -> NgramLm:
    while lines.line is not None and lines.line != "\\data\\":
        lines.next()
    if lines.line is None:
        raise lines.error("no '\\data\\' line: not an ARPA file")
    lines.next()
    sizes: list[int] = []
    while lines.line is not None and (match := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", lines.line)):
        if int(match[1]) != len(sizes) + 1:
            raise lines.error(f"expected 'ngram {len(sizes) + 1}=...', got {lines.line!r}")
        sizes.append(int(match[2]))
        lines.next()
    if not sizes:
        raise lines.error(f"expected 'ngram 1=...' after '\\data\\', got {lines.line!r}")
    words: dict[str, int] = {}
    orders: list[Order] = []
    for n, size in enumerate(sizes, 1):
        orders.append(_read_order(lines, n, len(sizes), size, words, orders))
    if lines.line != "\\end\\":
        raise lines.error(f"expected '\\end\\', got {lines.line!r}: is the file cut off, or are there more n-grams than announced?")
    for word in (BOS, EOS):
        if word not in words:
            raise lines.error(f"the model has no unigram {word}")
    return NgramLm(list(words), [order for order in orders if len(order)])


def _read_order(lines: _Lines, n: int, highest: int, size: int, words: dict[str, int], below: list[Order]) -> Order:
    if lines.line != f"\\{n}-grams:":
        raise lines.error(f"expected '\\{n}-grams:', got {lines.line!r}")
    header = lines.number
    lines.next()
    ids = np.zeros((size, n), dtype=np.int64)
    values = np.zeros((size, 2))
    numbers = np.zeros(size, dtype=np.int64)
    count = 0
    bar = tqdm(total=size, desc=f"reading {n}-grams", leave=False, delay=3)
    with bar:
        while lines.line is not None and not lines.line.startswith("\\"):
            if count == size:
                raise lines.error(f"more {n}-grams than the {size} announced")
            numbers[count] = lines.number
            _parse(lines, n, highest, words, ids[count], values[count])
            count += 1
            bar.update()
            lines.next()
    if count < size:
        raise lines.error(f"{size} {n}-grams were announced, but only {count} follow line {header}: is the file cut off?")
    if n == 1:
        return Order(np.zeros(size, dtype=np.int64), np.arange(size), values[:, 0], values[:, 1])
    return _sorted_order(lines, ids, values, numbers, len(words), below, list(words))


def _parse(lines: _Lines, n: int, highest: int, words: dict[str, int], ids: Any, values: Any) -> None:
    assert lines.line is not None
    fields = lines.line.split()
    allowed = (n + 1, n + 2) if n < highest else (n + 1,)
    if len(fields) not in allowed:
        weight = " and maybe a back-off weight" if n < highest else ""
        raise lines.error(f"expected a log-probability, {n} words{weight}, got {lines.line!r}")
    try:
        values[0] = float(fields[0])
        values[1] = float(fields[n + 1]) if len(fields) > n + 1 else 0.0
    except ValueError:
        raise lines.error(f"not a number in {lines.line!r}") from None
    if not np.isfinite(values).all() or values[0] > 0:
        raise lines.error(f"log10-probabilities must be finite and not above 0, back-off weights finite: {lines.line!r}")
    if n == 1:
        if fields[1] in words:
            raise lines.error(f"the unigram {fields[1]!r} is there twice")
        ids[0] = words[fields[1]] = len(words)
        return
    for place, word in enumerate(fields[1 : n + 1]):
        if word not in words:
            raise lines.error(f"{word!r} is not among the unigrams")
        ids[place] = words[word]


def _sorted_order(
    lines: _Lines, ids: np.ndarray, values: np.ndarray, numbers: np.ndarray, vocab_size: int, below: list[Order], words: list[str],
) -> Order:
    """n-grams (rows of word ids) as rows of the trie: the history looked up order by order, sorted by (history, word)."""
    n = ids.shape[1]
    row = ids[:, 0]
    for k in range(2, n):
        keys = below[k - 1].history * vocab_size + below[k - 1].word
        wanted = row * vocab_size + ids[:, k - 1]
        row = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        absent = np.flatnonzero(keys[row] != wanted) if len(keys) else np.arange(len(wanted))
        if len(absent):
            lines.number = int(numbers[absent[0]])
            missing = " ".join(words[i] for i in ids[absent[0], :k])
            raise lines.error(f"the history {missing!r} of this {n}-gram is not among the {k}-grams")
    keys = row * vocab_size + ids[:, -1]
    order = np.argsort(keys, kind="stable")
    if len(twice := np.flatnonzero(np.diff(keys[order]) == 0)):
        lines.number = int(numbers[order[twice[0] + 1]])
        raise lines.error(f"the {n}-gram {' '.join(words[i] for i in ids[order[twice[0]]])!r} is there twice")
    return Order(row[order], ids[order, -1], values[order, 0], values[order, 1])
