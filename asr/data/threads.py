"""Reading many files at once."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Callable, Iterable, Iterator, TypeVar

from tqdm import tqdm

A = TypeVar("A")
B = TypeVar("B")


def map_files(function: Callable[[A], B], items: Iterable[A], jobs: int, title: str) -> list[B]:
    """``function`` of every item, in their order, with progress. Threads do, since decoders let go of the interpreter's lock."""
    items = list(items)
    results = []
    with tqdm(total=len(items), desc=title, unit="file", delay=3) as progress:
        pool = ThreadPoolExecutor(jobs)
        try:
            for result in pool.map(function, items):
                results.append(result)
                progress.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # an interrupt waits for the files being read, not for all
    return results


def read_ahead(function: Callable[[A], B], items: Iterable[A], size: int = 8) -> Iterator[B]:
    """``function`` of every item, in their order: of ``size`` of them in a thread, while the caller is busy with those before."""
    left = iter(items)

    def block() -> list[B]:
        return [function(item) for item in islice(left, size)]

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(block)
        while results := ahead.result():
            ahead = pool.submit(block)
            yield from results
