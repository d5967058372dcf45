"""Speech by eSpeak NG (asr/tokens/espeak.py), made deterministic.

eSpeak's output depends on what the process said before, even after it is terminated and initialised again. So whatever
must be repeatable is said in a process of its own: see :func:`in_fresh_processes`.
"""
from __future__ import annotations

import ctypes
import multiprocessing
import signal
import threading
import traceback
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Callable, Iterator, Sequence, TypeVar, cast

import numpy as np

from asr.tokens.espeak import library

_CHARS_UTF8, _POSITION_CHARACTER = 1, 1
_RATE, _PITCH = 1, 3  # espeak_PARAMETER

R = TypeVar("R")


class _Voice(ctypes.Structure):
    """espeak_VOICE of speak_lib.h; ``languages`` is a priority byte, a language tag, and more of such."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("languages", ctypes.c_void_p), ("identifier", ctypes.c_char_p), ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte), ("variant", ctypes.c_ubyte), ("xx1", ctypes.c_ubyte), ("score", ctypes.c_int), ("spare", ctypes.c_void_p),
    ]


def list_voices() -> dict[str, str]:
    """Voice name (as :func:`say` takes it) -> lower-case language tag, e.g. {"en-US": "en-us"}."""
    library().espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    voices = library().espeak_ListVoices(None)
    found: dict[str, str] = {}
    for index in range(10_000):
        if not voices[index]:
            break
        voice = voices[index].contents
        name = voice.identifier.decode().rpartition("/")[2]
        found[name] = ctypes.string_at(voice.languages + 1).decode().lower()
    return found


def say(text: str, voice: str, variant: str, *, pitch: int, rate: int, seed: int) -> np.ndarray:
    """Speech as int16 (samples,) at ``asr.tokens.espeak.SAMPLE_RATE``.

    pitch: 0..100, 50 being the voice's own; rate: words per minute; seed: of eSpeak's own randomness.
    """
    engine = library()
    engine.espeak_SetSynthCallback(_hear)
    if engine.espeak_SetVoiceByName(f"{voice}+{variant}".encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice '{voice}' with variant '{variant}'")
    engine.espeak_SetParameter(_RATE, rate, 0)
    engine.espeak_SetParameter(_PITCH, pitch, 0)
    engine.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    ctypes.CDLL(None).srand(ctypes.c_uint(seed))
    encoded = text.encode() + b"\0"
    _heard.clear()
    status = engine.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None)
    engine.espeak_Synchronize()
    speech = np.frombuffer(b"".join(_heard), dtype=np.int16)
    if status != 0 or not len(speech):
        raise ValueError(f"eSpeak NG could not say '{text}' with voice '{voice}+{variant}' (status {status})")
    return speech


_heard: list[bytes] = []


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
def _hear(samples: Any, count: int, _events: Any) -> int:
    if samples and count > 0:
        _heard.append(ctypes.string_at(samples, count * 2))
    return 0  # 0: go on speaking


def in_fresh_processes(function: Callable[..., R], tasks: Sequence[tuple[Any, ...]], jobs: int = 1) -> Iterator[R]:
    """``function(*task)`` for each task, each in a forked process of its own, ``jobs`` at a time; results as they come.

    An error in a task is raised here. On an interrupt, tasks under way end first and no other is started.
    """
    context = multiprocessing.get_context("fork")
    waiting = iter(tasks)
    running: dict[Connection, Any] = {}
    try:
        while True:
            while len(running) < jobs and (task := next(waiting, None)) is not None:
                with _interrupts_wait():
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=_run_task, args=(sender, function, task))
                    process.start()
                    sender.close()
                    running[receiver] = process
            if not running:
                return
            for ready in wait(list(running)):
                receiver = cast(Connection, ready)
                yield _result(receiver, running.pop(receiver))
    finally:
        for process in running.values():
            process.join()


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """An interrupt comes when the block has ended: Python swallows the exception of one that comes within a fork."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    before: Any = signal.signal(signal.SIGINT, lambda *signal_and_frame: received.append(signal_and_frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received and callable(before):
        before(*received[0])


def _run_task(sender: Connection, function: Callable[..., Any], task: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        sender.send((function(*task), None))
    except (ValueError, OSError) as error:
        sender.send((None, error))
    except BaseException:
        sender.send((None, RuntimeError(traceback.format_exc())))


def _result(receiver: Connection, process: Any) -> Any:
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a process that synthesised speech ended with status {process.exitcode} and no result") from None
    process.join()
    receiver.close()
    if error is not None:
        raise error
    return result
