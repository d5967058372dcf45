"""asr doctor: what is reported on the stack the tests run on, and on broken ones."""
from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr import environment
from asr.environment import PARTS, Finding, Part

ROOT = Path(__file__).resolve().parents[2]


def doctor(*arguments: str, path: Path | None = None) -> tuple[int, str]:
    """Runs the command, with the modules in ``path`` in front of the installed ones."""
    search = os.pathsep.join(str(p) for p in (path, ROOT) if p is not None)
    command = [sys.executable, "-m", "asr", "doctor", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": search})
    assert "Traceback" not in answer.stderr, answer.stderr
    return answer.returncode, answer.stdout


def test_this_environment_is_ready_and_every_part_is_reported() -> None:
    status, output = doctor("--json")
    report = json.loads(output)
    assert status == 0 and report["ready"] is True
    assert [part["name"] for part in report["parts"]] == [part.name for part in PARTS]
    states = {part["name"]: part["state"] for part in report["parts"]}
    assert {name for name, state in states.items() if state == "broken"} == set()
    for name, module in (("k2", "k2"), ("kaldifeat", "kaldifeat"), ("numba", "numba"), ("onnxruntime", "onnxruntime")):
        assert (states[name] == "ok") == (importlib.util.find_spec(module) is not None), name
    assert (report["engines"]["graph search"] == "k2") == (states["k2"] == "ok")
    torch = next(part["detail"] for part in report["parts"] if part["name"] == "torch")
    assert torch.startswith(__import__("torch").__version__)


def test_the_table_says_what_is_lost_and_what_brings_it() -> None:
    status, output = doctor()
    assert status == 0 and output.rstrip().endswith("Ready to train and decode.")
    for part in PARTS:
        line = next(line for line in output.splitlines() if line.startswith(part.name.ljust(20)))
        if "MISSING" in line:
            assert part.lost in line and part.fix in output


def test_broken_missing_and_lethal_modules_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "kaldialign.py").write_text("raise OSError('libfst.so: undefined symbol')", encoding="utf-8")
    (tmp_path / "kaldifst.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", encoding="utf-8")
    (tmp_path / "tqdm.py").write_text("import a_module_nobody_has", encoding="utf-8")
    (tmp_path / "kaldilm.py").write_text("print('noise on stdout', end='')", encoding="utf-8")
    status, output = doctor("--json", path=tmp_path)
    report = json.loads(output)
    parts = {part["name"]: part for part in report["parts"]}
    assert status == 1 and report["ready"] is False
    assert parts["kaldialign"]["state"] == "broken" and "undefined symbol" in parts["kaldialign"]["detail"]
    assert parts["kaldifst"]["state"] == "broken" and "SIGSEGV" in parts["kaldifst"]["detail"]
    assert parts["tqdm"]["state"] == "broken" and "a_module_nobody_has" in parts["tqdm"]["detail"]
    assert parts["kaldilm"]["state"] == "ok"
    assert list(parts) == [part.name for part in PARTS]  # those after the lethal one were examined all the same
    status, output = doctor(path=tmp_path)
    last = output.rstrip().splitlines()[-1]
    assert status == 1 and last.startswith("Not ready: ") and "kaldialign, tqdm" in last and "--rebuild" in output


def test_a_broken_torch_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.11.0: cannot open shared object file')", encoding="utf-8")
    status, output = doctor(path=tmp_path)
    assert status == 1 and "BROKEN" in output and "libcudart" in output and "Not ready: torch" in output


def test_absent_modules_and_programs_are_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        Part("module", environment.module("a_module_nobody_has"), "", ""),
        Part("program", environment.program("a-program-nobody-has"), "", ""),
        Part("python", environment.program(sys.executable, "--version"), "", ""),
    ]
    environment.probe_here(parts)
    lines = [line[len(environment.MARK):] for line in capsys.readouterr().out.splitlines() if line.startswith(environment.MARK)]
    found = [json.loads(line) for line in lines]
    assert [item["state"] for item in found] == ["missing", "missing", "ok"]
    assert found[2]["detail"].startswith("Python 3.")


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        (["sm_37", "sm_80", "sm_86"], (8, 6), True),
        (["sm_80"], (8, 9), True),  # machine code runs on later minor versions
        (["sm_86"], (8, 0), False),  # never on earlier ones
        (["sm_37", "sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86"], (9, 0), False),  # torch 1.13 on an H100
        (["sm_86", "compute_86"], (9, 0), True),  # compiled on the machine
        (["compute_90"], (8, 6), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100a"], (10, 3), False),  # 'a' code is for one version only
        (["sm_100", "sm_120"], (12, 0), True),
        ([], (8, 0), False),
    ],
)
def test_kernels_for_a_gpu(architectures: list[str], capability: tuple[int, int], expected: bool) -> None:
    assert environment.has_kernels(architectures, capability) is expected


def test_engines_follow_what_works() -> None:
    def finding(name: str, state: environment.State) -> Finding:
        return Finding(name, state, "", "", "", False)

    assert environment.engines([finding("k2", "ok"), finding("kaldifeat", "ok"), finding("numba", "ok")]) == {
        "features": "kaldifeat", "losses on CPUs": "numba", "losses on GPUs": "PyTorch", "graph building": "k2", "graph search": "k2",
    }
    without = environment.engines(
        [finding("k2", "broken"), finding("kaldifeat", "missing"), finding("OpenFst", "ok"), finding("triton", "ok")]
    )
    assert without["features"] == "lhotse" and without["graph building"] == "OpenFst"
    assert (without["losses on CPUs"], without["losses on GPUs"]) == ("PyTorch", "Triton")
    assert without["graph search"].startswith("NumPy") and environment.engines([])["graph building"].startswith("none")
