"""utils/setup_env.sh and utils/find_python.sh: what is chosen, why, and that nothing half-built passes as whole.

Stand-in interpreters keep these tests fast; the real builds of both stacks are part of .ci/run.
"""
from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "awk", "bash", "cat", "chmod", "cksum", "df", "dirname", "grep", "head",
    "mkdir", "rm", "realpath", "sed", "sleep", "sort", "tail", "touch", "uname",
)
WHEEL = "k2-1.24.4.dev20250715+cpu.torch2.8.0-cp311-cp311-manylinux_2_17_x86_64.whl"

# Claims to be another version when asked for it, makes environments of stubs, and has nothing else of Python.
STAND_IN = """#!/usr/bin/env bash
case "$1 $2" in
    "- "*) exec "{python}" -c 'import sys
sys.version_info = ({major}, {minor}, 1)
sys._base_executable = "{self}"
{disturbance}
exec(sys.stdin.read())' "$2" ;;
    "-m venv") mkdir -p "$3/bin"; printf '#!/usr/bin/env bash\\n{pip}\\n' >"$3/bin/python"; chmod +x "$3/bin/python"
        printf '#!/usr/bin/env bash\\necho doctor was here\\n' >"$3/bin/asr"; chmod +x "$3/bin/asr" ;;
    *) exec "{python}" "$@" ;;
esac
"""


class Machine:
    """A home, a PATH and a copy of the scripts, with only the interpreters put there."""

    def __init__(self, folder: Path) -> None:
        self.home, self.bin, self.root = folder / "home", folder / "bin", folder / "checkout"
        for directory in (self.home, self.bin, self.root):
            directory.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        for name in ("utils", "requirements"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "setup.py", self.root)
        self.venv = self.root / ".venv"
        self.environment = {
            "HOME": str(self.home), "PATH": str(self.bin), "SYSTEM_PYTHON_DIRS": "", "K2_WHEELS": (folder / "no-page.html").as_uri()
        }

    def add_python(self, version: str, path: Path | None = None, disturbance: str = "", pip: str = "exit 0") -> Path:
        path = path or self.home / ".pyenv" / "versions" / f"{version}.1" / "bin" / f"python{version}"
        path.parent.mkdir(parents=True, exist_ok=True)
        major, minor = version.split(".")
        path.write_text(
            STAND_IN.format(python=sys.executable, major=major, minor=minor, self=path, disturbance=disturbance, pip=pip), encoding="utf-8"
        )
        path.chmod(0o755)
        return path

    def command(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.bin / "bash"), str(self.root / "utils" / script), *arguments], env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )

    def run(self, script: str, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.command(script, *arguments, **environment)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def k2_machine(machine: Machine) -> Machine:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the wheels of the k2 stack are for Linux on x86_64")
    return machine


# ---------------------------------------------------------------- finding Python


@pytest.mark.parametrize(
    "place",
    [
        "home/.pyenv/versions/3.10.13/bin",
        "home/.local/share/uv/python/cpython-3.10.14-linux-x86_64-gnu/bin",
        "home/miniconda3/bin",
        "home/miniforge3/envs/old/bin",
        "bin",
    ],
)
def test_python_is_found_wherever_it_is_kept(machine: Machine, tmp_path: Path, place: str) -> None:
    path = machine.add_python("3.10", tmp_path / place / "python3.10")
    machine.add_python("3.11")
    assert machine.run("find_python.sh", "3.10") == (0, f"{path}\n")


def test_a_python_that_cannot_make_environments_is_passed_over(machine: Machine, tmp_path: Path) -> None:
    machine.add_python("3.10", tmp_path / "bin" / "python3.10", disturbance='sys.modules["ensurepip"] = None')
    status, output = machine.run("find_python.sh", "3.10")
    assert status == 1 and "install the package python3.10-venv" in output
    good = machine.add_python("3.10")
    assert machine.run("find_python.sh", "3.10") == (0, f"{good}\n")


def test_where_none_is_found_it_says_where_it_looked_and_how_to_get_one(machine: Machine) -> None:
    machine.add_python("3.11", machine.bin / "python3")
    status, output = machine.run("find_python.sh", "3.10")
    assert status == 1
    for text in ("on PATH", ".pyenv/versions/3.10.*", "uv/python/cpython-3.10.*", "miniconda3", "python3: is Python 3.11",
                 "pyenv install 3.10", "uv python install 3.10", "conda create", "deadsnakes"):
        assert text in output, text


# ---------------------------------------------------------------- choosing the stack


def test_auto_takes_recent_torch_with_k2_where_the_page_has_a_wheel(k2_machine: Machine, tmp_path: Path) -> None:
    k2_machine.add_python("3.10")
    python = k2_machine.add_python("3.11")
    page = tmp_path / "cpu.html"
    page.write_text(f'<a href="{WHEEL}">{WHEEL}</a>', encoding="utf-8")
    status, output = k2_machine.run("setup_env.sh", "--dry-run", K2_WHEELS=page.as_uri())
    assert status == 0 and "torch 2.8.0 with k2" in output and WHEEL in output and f"with {python}" in output
    assert not k2_machine.venv.exists()


def test_auto_takes_the_k2_stack_where_the_page_cannot_be_reached(k2_machine: Machine) -> None:
    python = k2_machine.add_python("3.10")
    k2_machine.add_python("3.11")
    status, output = k2_machine.run("setup_env.sh", "--dry-run")
    assert status == 0 and "cannot be reached" in output and "stack: k2" in output and f"with {python}" in output


def test_auto_takes_modern_where_there_is_no_python_3_10(machine: Machine) -> None:
    python = machine.add_python("3.12")
    status, output = machine.run("setup_env.sh", "--dry-run")
    assert status == 0 and "no k2 stack" in output and "stack: modern, without k2" in output and f"with {python}" in output


def test_auto_takes_modern_where_the_old_torch_cannot_use_the_gpu(k2_machine: Machine) -> None:
    k2_machine.add_python("3.10")
    k2_machine.add_python("3.11")
    gpu = k2_machine.bin / "nvidia-smi"
    for capability, stack in (("8.6", "stack: k2"), ("9.0", "stack: modern"), ("12.0", "stack: modern")):
        gpu.write_text(f"#!/usr/bin/env bash\necho {capability}\n", encoding="utf-8")
        gpu.chmod(0o755)
        status, output = k2_machine.run("setup_env.sh", "--dry-run")
        assert status == 0 and stack in output, output
    status, output = k2_machine.run("setup_env.sh", "--dry-run", STACK="k2")
    assert status == 0 and "stack: k2" in output


def test_a_stack_can_be_forced(k2_machine: Machine) -> None:
    k2_machine.add_python("3.10")
    k2_machine.add_python("3.11")
    for stack in ("k2", "modern"):
        status, output = k2_machine.run("setup_env.sh", "--dry-run", STACK=stack)
        assert status == 0 and f"stack: {stack}" in output
    status, output = k2_machine.run("setup_env.sh", "--dry-run", STACK="new")
    assert status == 1 and "STACK=new is not one of auto, k2, modern" in output


def test_without_any_python_it_fails_with_the_way_out(machine: Machine) -> None:
    status, output = machine.run("setup_env.sh")
    assert status == 1 and "pyenv install 3.10" in output and "pyenv install 3.11" in output
    assert not machine.venv.exists()


# ---------------------------------------------------------------- whole or absent


def test_a_second_run_builds_nothing_and_a_changed_requirement_updates(machine: Machine) -> None:
    machine.add_python("3.11")
    status, output = machine.run("setup_env.sh", STACK="modern")
    assert status == 0 and "is ready after" in output and "doctor was here" in output
    for stack in ("modern", "auto"):
        status, output = machine.run("setup_env.sh", STACK=stack)
        assert status == 0 and output == f"{machine.venv} is up to date (stack modern)\ndoctor was here\n"
    assert machine.run("setup_env.sh", "--if-missing") == (0, "")
    (machine.venv / "mine").touch()
    with open(machine.root / "requirements" / "base.txt", "a", encoding="utf-8") as file:
        file.write("something==1\n")
    status, output = machine.run("setup_env.sh", STACK="modern")
    assert status == 0 and "torch and the requirements" in output and "virtual environment from" not in output
    assert (machine.venv / "mine").exists()
    status, output = machine.run("setup_env.sh", "--rebuild", STACK="modern")
    assert status == 0 and "virtual environment from" in output and not (machine.venv / "mine").exists()


def test_another_stack_or_another_place_is_built_anew(k2_machine: Machine) -> None:
    k2_machine.add_python("3.10")
    k2_machine.add_python("3.11")
    assert k2_machine.run("setup_env.sh", STACK="modern")[0] == 0
    status, output = k2_machine.run("setup_env.sh", STACK="k2")
    assert status == 0 and "torch, k2 and the requirements" in output
    assert (k2_machine.venv / ".stamp").read_text().startswith("k2 ")
    moved = k2_machine.venv.rename(k2_machine.root / "elsewhere")  # scripts inside still name the old place
    status, output = k2_machine.run("setup_env.sh", STACK="k2", VENV=str(moved))
    assert status == 0 and "virtual environment from" in output


def test_a_failed_build_shows_why_and_never_passes_as_whole(machine: Machine) -> None:
    machine.add_python("3.11", pip='case "$*" in *requirements*) echo no such version of torch; exit 1 ;; esac')
    status, output = machine.run("setup_env.sh", STACK="modern")
    assert status == 1 and "no such version of torch" in output and str(machine.venv / "build.log") in output
    assert not (machine.venv / ".stamp").exists() and (machine.venv / ".incomplete").exists()
    machine.add_python("3.11")
    status, output = machine.run("setup_env.sh", "--if-missing", STACK="modern")
    assert status == 0 and "virtual environment from" in output and not (machine.venv / ".incomplete").exists()


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_is_finished_by_the_next_run(machine: Machine, kill: signal.Signals) -> None:
    machine.add_python("3.11", pip='case "$*" in *requirements*) sleep 30 ;; esac')
    process = machine.command("setup_env.sh", STACK="modern")
    deadline = time.monotonic() + 20
    while not (machine.venv / "bin" / "python").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(process.pid, kill)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == (130 if kill == signal.SIGINT else -signal.SIGKILL)
    assert kill != signal.SIGINT or "run it again to finish" in output
    assert not (machine.venv / ".stamp").exists() and (machine.venv / ".incomplete").exists()
    machine.add_python("3.11")
    status, output = machine.run("setup_env.sh", STACK="modern")
    assert status == 0 and "virtual environment from" in output and (machine.venv / ".stamp").exists()


def test_a_directory_of_the_users_own_is_left_alone(machine: Machine) -> None:
    machine.add_python("3.11")
    (machine.venv / "bin").mkdir(parents=True)
    (machine.venv / "keep").touch()
    status, output = machine.run("setup_env.sh", STACK="modern")
    assert status == 1 and "was not made by this script" in output and (machine.venv / "keep").exists()
    status, output = machine.run("setup_env.sh", "--rebuild", STACK="modern")
    assert status == 1 and (machine.venv / "keep").exists()


def test_recipes_do_not_use_a_half_built_environment(machine: Machine) -> None:
    """With VENV relative to the project's root, as make passes it."""
    machine.add_python("3.11")
    assert machine.run("setup_env.sh", STACK="modern")[0] == 0  # its python is a stub that agrees to every import
    recipe = machine.root / "run.sh"
    recipe.write_text(f". {machine.root}/utils/setup.sh\ncommand -v python\n", encoding="utf-8")
    assert machine.run("../run.sh", VENV=".venv") == (0, f"{machine.venv}/bin/python\n")
    (machine.venv / ".incomplete").touch()
    status, output = machine.run("../run.sh", VENV=".venv")
    assert status == 2 and "run 'make env'" in output
