from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from asr.files import append_line, atomic_dir, atomic_path, atomic_write, fingerprint, run_once, save_tensors


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    with atomic_write(path) as file:
        file.write("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("half of the new")
        raise RuntimeError
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "d"
    for content in ("one", "two"):
        with atomic_dir(target) as partial:
            (partial / content).write_text(content)
    with pytest.raises(RuntimeError), atomic_dir(target) as partial:
        (partial / "three").write_text("")
        raise RuntimeError
    assert [p.name for p in tmp_path.rglob("*")] == ["d", "two"]


def test_sigkill_during_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = "import sys, time; from asr.files import atomic_write\n" \
           "with atomic_write(sys.argv[1]) as f: f.write('x' * 100000); f.flush(); print('writing', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.read_text() == "old"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = "import resource, signal, sys; from asr.files import atomic_write\n" \
           "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n" \
           "with atomic_write(sys.argv[1]) as f: f.write('x' * 100000)"
    finished = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert finished.returncode != 0 and "OSError" in finished.stderr
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_named_and_does_not_end_the_process(tmp_path: Path) -> None:
    """torch's own writer calls abort() where a write fails (torch 1.13)."""
    code = "import resource, sys, torch; from pathlib import Path; from asr.files import append_line, save_tensors\n" \
           "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n" \
           "for name, write in (('a.pt', lambda path: save_tensors({'x': torch.zeros(100000)}, path)),\n" \
           "                    ('a.jsonl', lambda path: append_line(path, 'x' * 100000))):\n" \
           "    try: write(Path(sys.argv[1]) / name)\n" \
           "    except OSError as error: print(Path(error.filename).name, error.strerror)"
    finished = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert finished.stdout == "a.pt File too large\na.jsonl File too large\n", finished.stderr
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_saved_tensors_are_what_torch_reads(tmp_path: Path) -> None:
    save_tensors({"x": torch.arange(5), "y": {"z": torch.eye(3)}}, tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert torch.equal(state["x"], torch.arange(5)) and torch.equal(state["y"]["z"], torch.eye(3))


def test_a_line_cut_off_by_a_kill_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_line(path, "one")
    with open(path, "a") as file:
        file.write("tw")
    append_line(path, "three")
    append_line(path, "four")
    assert path.read_text() == "one\ntw\nthree\nfour\n"


def test_fingerprint_sees_content_not_containers(tmp_path: Path) -> None:
    for name, stamp in (("a.gz", 1), ("b.gz", 2)):
        with open(tmp_path / name, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=stamp) as file:
            file.write(b"same")
    assert (tmp_path / "a.gz").read_bytes() != (tmp_path / "b.gz").read_bytes()
    assert fingerprint(tmp_path / "a.gz") == fingerprint(tmp_path / "b.gz")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
    with pytest.raises(ValueError, match="run the stage that makes it first"):
        fingerprint(tmp_path / "absent")


def test_run_once_runs_again_only_for_a_reason(tmp_path: Path) -> None:
    output, runs = tmp_path / "out", []

    def build() -> None:
        runs.append(time.monotonic())
        output.write_text("done")

    assert run_once("step", [output], "key", build)
    assert not run_once("step", [output], "key", build)
    assert run_once("step", [output], "another key", build)
    output.unlink()
    assert run_once("step", [output], "another key", build)
    assert len(runs) == 3


def test_run_once_after_a_failure_is_not_up_to_date(tmp_path: Path) -> None:
    output = tmp_path / "out"

    def fail() -> None:
        output.write_text("looks finished")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_once("step", [output], "key", fail)
    assert run_once("step", [output], "key", lambda: None)
