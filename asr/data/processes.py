"""Work spread over processes, of which an interruption leaves what is finished."""
from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from typing import Callable, Iterable, TypeVar

import torch
from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")


def run_tasks(function: Callable[[T], R], tasks: Iterable[T], size: Callable[[T], int], jobs: int, title: str) -> list[R]:
    """``function`` of every task, in ``jobs`` processes of one thread each; 0: in this one. The results are in no particular order.

    size: utterances in a task, for the progress bar. Tasks are drawn when their turn is near, so they need not all be in memory. The first
    error, or an interrupt, ends the others too.
    """
    progress = tqdm(desc=title, unit="utt", delay=3)
    results = []
    if jobs == 0:
        for task in tasks:
            results.append(function(task))
            progress.update(size(task))
        return results
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), initializer=_start_worker, initargs=(os.getpid(),))
    running: dict[Future[R], int] = {}

    def finish(done: Iterable[Future[R]]) -> None:
        for future in done:
            results.append(future.result())
            progress.update(running.pop(future))

    with progress:
        try:
            for task in tasks:
                running[pool.submit(function, task)] = size(task)
                if len(running) > 2 * jobs:
                    finish(wait(running, return_when=FIRST_COMPLETED).done)
            finish(as_completed(list(running)))
        except BaseException:  # an error or an interrupt: what runs is abandoned, what is finished stays
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return results


def _start_worker(parent: int) -> None:
    """One thread; no interrupt of its own; and an end when the program that started it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
