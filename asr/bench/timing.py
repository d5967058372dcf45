"""What the benchmarks share."""
from __future__ import annotations

import time
from pathlib import Path
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


def resident(field: str) -> int:
    """Bytes of this process that are, or at most were, in memory (Linux's VmRSS and VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
