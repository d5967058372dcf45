"""SIGTERM (a scheduler's preemption) and Ctrl-C as requests that training answers between two steps."""
from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """While open, the first SIGTERM or SIGINT is only noted in ``received``; a second SIGINT interrupts at once.

    Processes forked meanwhile (the loader's workers) pass over the first signal, which schedulers and terminals send to
    the whole group, so that the step in progress is not torn apart by a dying worker; the second one ends them.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:
            signal.signal(number, signal.SIG_DFL)
        elif self.received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            self.received = signal.Signals(number)
