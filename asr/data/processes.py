"""Work spread over processes, of which an interruption leaves what is finished."""
from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, Callable, Sequence

import torch
from tqdm import tqdm


def run_tasks(function: Callable[[Any], Any], tasks: Sequence[Any], sizes: Sequence[int], jobs: int, title: str) -> list[Any]:
    """``function`` of every task, in ``jobs`` processes of one thread each; 0: in this one. The results are in no particular order.

    sizes: utterances in each task, for the progress bar. The first error, or an interrupt, ends the others too.
    """
    if not tasks:
        return []
    progress = tqdm(total=sum(sizes), desc=title, unit="utt", delay=3)
    results = []
    if jobs == 0:
        for task, size in zip(tasks, sizes):
            results.append(function(task))
            progress.update(size)
        return results
    workers = min(jobs, len(tasks))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), initializer=_start_worker, initargs=(os.getpid(),))
    with progress:
        try:
            running: dict[Future[Any], int] = {pool.submit(function, task): size for task, size in zip(tasks, sizes)}
            for done in as_completed(running):
                results.append(done.result())
                progress.update(running[done])
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
