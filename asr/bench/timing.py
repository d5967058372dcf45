"""What the benchmarks share."""
from __future__ import annotations

import time
from typing import Callable

import torch


def best_time(run: Callable[[], object], seconds: float, device: str = "cpu") -> float:
    """The shortest of several runs: in CPU time on one thread, which other programs disturb less, else in wall time."""
    on_gpu = device.startswith("cuda")
    clock = time.process_time if torch.get_num_threads() == 1 and not on_gpu else time.perf_counter
    run()
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = clock()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        elapsed = clock() - start
        best, spent = min(best, elapsed), spent + elapsed
    return best
