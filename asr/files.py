"""Files that are whole or absent, and steps that run only when something they depend on changed."""
from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import pickle
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Mapping, Sequence

log = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file beside ``path``, which takes its place only when the block ends without an error.

    The bytes are synced before the rename, so neither a crash nor a full disk leaves half a file under the final name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # what a full disk raises does not say where
        raise
    finally:
        partial.unlink(missing_ok=True)


def append_line(path: Path | str, line: str) -> None:
    """Adds a line to a log. One that a kill has cut off before stays a line of its own."""
    try:
        with open(path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def save_tensors(values: Mapping[str, Any], path: Path | str) -> None:
    """``torch.save``, whole or not at all, raising OSError where a write fails (torch itself ends the process then)."""
    import torch

    with atomic_write(path, "wb") as file:
        sink = _Sink(file)
        torch.save(values, sink)  # type: ignore[arg-type]
        if sink.error is not None:
            raise sink.error


def load_tensors(path: Path | str) -> dict[str, Any]:
    """What :func:`save_tensors` wrote, on the CPU. Raises ValueError where the file is absent or damaged."""
    import torch

    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run the stage that makes it first") from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}); remove it and run the stage that makes it again") from None
    return values


def digest_of(state: Mapping[str, Any]) -> str:
    """Hex digest of a state dict's contents: tensors by name."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


class _Sink:
    """Takes everything, and keeps the first error for later."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Left to the owner of the file."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Like :func:`atomic_write` for writers that want a path; the temporary name keeps every suffix of ``path``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".part{os.getpid()}.{path.name}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """An empty directory beside ``path`` that replaces it only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    os.chmod(partial, 0o755)
    try:
        yield partial
        if path.exists():
            old = partial.with_suffix(".old")
            os.rename(path, old)
            os.rename(partial, path)
            shutil.rmtree(old)
        else:
            os.rename(partial, path)
        _sync_directory(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fingerprint(*parts: Any) -> str:
    """Hex digest of JSON-able values and of the contents of files (given as Path; .gz is read decompressed).

    A Path to a directory stands for every file in it, by relative name and content.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path) and part.is_dir():
            for file in sorted(p for p in part.rglob("*") if p.is_file() and not p.name.startswith(".")):
                digest.update(str(file.relative_to(part)).encode())
                _digest_file(digest, file)
        elif isinstance(part, Path):
            _digest_file(digest, part)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _digest_file(digest: Any, path: Path) -> None:
    if not path.exists():
        raise ValueError(f"{path}: no such file; run the stage that makes it first")
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)


def run_once(title: str, outputs: Sequence[Path], key: str, build: Callable[[], None]) -> bool:
    """Runs ``build`` unless all ``outputs`` exist and were made from ``key`` (see :func:`fingerprint`).

    ``build`` must write each output whole or not at all. The key is noted in a stamp beside the first output only
    after everything is in place, so an interrupted step is simply run again. Returns whether it ran.
    """
    stamp = outputs[0].with_name(f".{outputs[0].name}.stamp")
    if stamp.exists() and stamp.read_text() == key and all(path.exists() for path in outputs):
        log.info("%s: up to date", title)
        return False
    stamp.unlink(missing_ok=True)
    started = time.monotonic()
    build()
    missing = [str(path) for path in outputs if not path.exists()]
    assert not missing, f"{title} did not write {missing}"
    with atomic_write(stamp) as file:
        file.write(key)
    log.info("%s: done in %.1f s", title, time.monotonic() - started)
    return True
