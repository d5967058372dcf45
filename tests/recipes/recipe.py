"""A recipe run as a user runs it, with everything it writes in one directory; and a way to stop it at an exact moment."""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping

import torch

from asr.train.checkpoints import read_checkpoint
from tests.conftest import ROOT

STOPPER = '''
"""Loaded by every Python program of a run: stops the whole process group when the n-th file below a directory is about to change."""
import os
import signal
import sys

WATCHED, COUNTER = os.environ["WATCHED"] + os.sep, os.environ["COUNTER"]
STOP_AT, SIGNAL = int(os.environ["STOP_AT"]), int(os.environ["STOP_SIGNAL"])
CHANGES = {"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def watch(event, arguments):
    if event == "open":
        path = arguments[0] if arguments[2] & WRITING else None
    else:
        path = arguments[CHANGES[event]] if event in CHANGES else None
    if isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(WATCHED):
        descriptor = os.open(COUNTER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # one byte per change, whichever process makes it
        os.write(descriptor, b".")
        os.close(descriptor)
        if os.path.getsize(COUNTER) == STOP_AT:
            os.killpg(0, SIGNAL)


sys.addaudithook(watch)
'''


class Recipe:
    """``egs/<name>/run.sh`` on the stack that runs the tests. Corpus, data, experiment and results lie in ``directory``."""

    def __init__(self, name: str, directory: Path, *options: str, corpus: Path | None = None) -> None:
        self.name, self.directory = name, directory
        self.corpus = corpus or directory / "corpus"
        self.data, self.exp, self.results = (directory / name for name in ("data", "exp", "results"))
        self._command = [
            str(ROOT / "egs" / name / "run.sh"), "--config", "conf/tiny.yaml", "--corpus-dir", str(self.corpus),
            "--data-dir", str(self.data), "--exp-dir", str(self.exp), "--results-dir", str(self.results), *options,
        ]

    def run(self, *options: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
        """largest_file: KiB that a file may have, beyond which the disk is as if full."""
        limited = [] if largest_file is None else ["bash", "-c", f'ulimit -f {largest_file}; exec "$@"', "bash"]
        return self._run([*limited, *self._command, *options], {})

    def run_stage(self, number: int, *options: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("--stage", str(number), "--stop-stage", str(number), *options, largest_file=largest_file)

    def count_changes(self, stage: int) -> int:
        """Runs a stage; how many times it opened a file to write, renamed or removed one."""
        finished, changes = self._watched(stage, 0, signal.SIGKILL)
        assert finished.returncode == 0, finished.stderr
        return changes

    def stop_stage(self, number: int, change: int, how: signal.Signals) -> subprocess.CompletedProcess[str]:
        """Runs a stage and sends a signal to all its processes just before the given change to a file."""
        return self._watched(number, change, how)[0]

    def _watched(self, stage: int, change: int, how: signal.Signals) -> tuple[subprocess.CompletedProcess[str], int]:
        tools = self.directory.with_name(f"{self.directory.name}-stopper")
        tools.mkdir(exist_ok=True)
        (tools / "sitecustomize.py").write_text(STOPPER)
        counter = tools / "counter"
        counter.unlink(missing_ok=True)
        environment = {"PYTHONPATH": str(tools), "WATCHED": str(self.directory), "COUNTER": str(counter),
                       "STOP_AT": str(change), "STOP_SIGNAL": str(int(how))}
        finished = self._run([*self._command, "--stage", str(stage), "--stop-stage", str(stage)], environment)
        return finished, counter.stat().st_size if counter.exists() else 0

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        self.directory.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return subprocess.run(command, cwd=self.directory, env={**inherited, "VENV": sys.prefix, "OMP_NUM_THREADS": "1", **environment},
                              capture_output=True, text=True, start_new_session=True, preexec_fn=_heed_interrupts, timeout=250)


def _heed_interrupts() -> None:
    """Whatever started the tests: a shell lets its background jobs ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def contents(directory: Path) -> dict[str, Any]:
    """What a run left, by file name, without what differs from run to run: times, and which steps' checkpoints are still there."""
    found = {str(path.relative_to(directory)): path for path in sorted(directory.rglob("*")) if path.is_file()}
    return {
        name: _content(path) for name, path in found.items()
        if not re.search(r"(^|/)\.|/tensorboard/|/step-\d+\.pt$|/RESULTS\.md$", name)
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the files that only one of them has, or that differ."""
    return sorted(name for name in one.keys() | other.keys() if name not in one or name not in other or one[name] != other[name])


VARYING = {
    "train.jsonl": {"seconds", "speed", "data_wait", "memory_gb"},
    "train_summary.json": {"seconds", "memory_gb", "commit", "dirty"},
    "ledger.jsonl": {"decode_seconds", "encoder_seconds", "date", "commit", "dirty", "training"},
}
"""Keys of JSON rows that tell times, and the state of the checkout."""


def _content(path: Path) -> Any:
    if path.parent.name == "checkpoints":
        leaves = _flat(read_checkpoint(path))
        return {name: leaf.tolist() if isinstance(leaf, torch.Tensor) else leaf for name, leaf in leaves.items() if name != "/seconds"}
    if path.parent.parent.name == "decode" and path.suffix == ".jsonl":
        return _rows(path, {"seconds", "encoder_seconds"})
    return _rows(path, VARYING[path.name]) if path.name in VARYING else path.read_bytes()


def _rows(path: Path, varying: set[str]) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(text)] if path.suffix == ".json" else map(json.loads, text.splitlines())
    return [{name: value for name, value in row.items() if name not in varying} for row in rows]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for part, inner in value.items() for key, leaf in _flat(inner, f"{name}/{part}").items()}
