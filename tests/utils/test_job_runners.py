"""run.pl, slurm.pl and queue.pl: run.pl as it is, the others with stand-ins for sbatch and qsub that run the jobs they are given."""
from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

RUNNERS = ["run.pl", "slurm.pl", "queue.pl"]

SBATCH = r"""#!/usr/bin/env bash
echo "$*" >"$SAID"
while [ $# -gt 1 ]; do
  if [ "$1" = --array ]; then range=${2%%%*}; fi
  shift
done
echo 17
status=0
for number in $(seq "${range%-*}" "${range#*-}"); do SLURM_ARRAY_TASK_ID=$number bash "$1" || status=1; done
exit $status
"""

QSUB = r"""#!/usr/bin/env bash
echo "$*" >"$SAID"
while [ $# -gt 1 ]; do
  if [ "$1" = -t ]; then range=$2; fi
  shift
done
status=0
for number in $(seq "${range%-*}" "${range#*-}"); do SGE_TASK_ID=$number bash "$1" || status=1; done
exit $status
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name, script in (("sbatch", SBATCH), ("qsub", QSUB)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}


def run(runner: str, directory: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "utils" / runner, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("runner", RUNNERS)
def test_each_job_gets_its_number_and_its_log(runner: str, tmp_path: Path, environment: dict[str, str]) -> None:
    awkward = "two  words {a,b} $HOME 'JOB'"
    command = ["printf", "%s\n", "job JOB", awkward, "|", "tee", "out.JOB"]
    finished = run(runner, tmp_path, environment, "JOB=2:4", "log dir/x.JOB.log", *command)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "log dir").iterdir()) == [f"x.{n}.log" for n in (2, 3, 4)]
    for number in (2, 3, 4):
        lines = [f"job {number}", awkward.replace("JOB", str(number))]
        assert (tmp_path / f"out.{number}").read_text().splitlines() == lines
        log = (tmp_path / f"log dir/x.{number}.log").read_text().splitlines()
        assert [line for line in log if not line.startswith("#")] == lines
        assert log[0].startswith("# printf ") and any(line.startswith("# Started at ") for line in log)
        assert log[-1].startswith("# Ended (code 0) at ")


@pytest.mark.parametrize("runner", RUNNERS)
def test_failures_are_named(runner: str, tmp_path: Path, environment: dict[str, str]) -> None:
    finished = run(runner, tmp_path, environment, "JOB=1:4", "x.JOB.log", "bash", "-c", "echo about JOB; exit $((JOB % 2 * 3))")
    assert finished.returncode == 1
    assert f"{runner}: 2 of 4 jobs failed: x.1.log x.3.log\n" in finished.stderr
    assert "about 1" in finished.stderr and "about 3" not in finished.stderr, "the end of the first one's log is shown"
    assert [(tmp_path / f"x.{n}.log").read_text().count("(code 3)") for n in (1, 2, 3, 4)] == [1, 0, 1, 0]


@pytest.mark.parametrize("runner", RUNNERS)
def test_one_job_without_a_number(runner: str, tmp_path: Path, environment: dict[str, str]) -> None:
    assert run(runner, tmp_path, environment, "a.log", "echo", "JOB=1:2").returncode == 0
    assert "\nJOB=1:2\n" in (tmp_path / "a.log").read_text()
    assert run(runner, tmp_path, environment, "b.log", "no-such-program").returncode == 1


def test_what_schedulers_are_told(tmp_path: Path, environment: dict[str, str]) -> None:
    needs = ["--mem", "4G", "--num-threads", "2", "--gpu", "1", "--max-jobs-run", "3", "--options", "-p long"]
    assert run("slurm.pl", tmp_path, environment, *needs, "JOB=1:4", "x.JOB.log", "true").returncode == 0
    said = (tmp_path / "said").read_text()
    assert all(part in said for part in ("--wait", "--array 1-4%3", "--mem 4G", "--cpus-per-task 2", "--gres gpu:1", "-p long"))
    assert run("queue.pl", tmp_path, environment, *needs, "JOB=1:4", "x.JOB.log", "true").returncode == 0
    said = (tmp_path / "said").read_text()
    assert all(part in said for part in ("-sync y", "-t 1-4", "-tc 3", "-l mem_free=4G", "-pe smp 2", "-l gpu=1", "-p long"))


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_jobs_at_once_than_allowed(most: int, tmp_path: Path, environment: dict[str, str]) -> None:
    """Each job notes how many are running, itself included, when it starts."""
    script = "touch running.JOB; ls running.* | wc -l; sleep 0.3; rm running.JOB"
    assert run("run.pl", tmp_path, environment, "--max-jobs-run", str(most), "JOB=1:5", "x.JOB.log", "bash", "-c", script).returncode == 0
    counts = [int(line) for n in range(1, 6) for line in (tmp_path / f"x.{n}.log").read_text().splitlines() if line.isdigit()]
    assert len(counts) == 5 and max(counts) == most


@pytest.mark.parametrize("how, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_takes_the_jobs_down(how: signal.Signals, status: int, tmp_path: Path, environment: dict[str, str]) -> None:
    command = [ROOT / "utils/run.pl", "--max-jobs-run", "4", "JOB=1:3", "x.JOB.log", "bash", "-c", "echo $$ >pid.JOB; sleep 60; echo late"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    pids = [tmp_path / f"pid.{n}" for n in (1, 2, 3)]
    while not all(path.exists() and path.read_text() for path in pids):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    assert process.wait(timeout=20) == status
    for path in pids:
        while Path(f"/proc/{path.read_text().strip()}/cmdline").exists() and Path(f"/proc/{path.read_text().strip()}/cmdline").read_bytes():
            time.sleep(0.02)
    assert not list(tmp_path.glob(".run.*"))


@pytest.mark.parametrize("arguments, problem", [
    (["--memory", "4G", "x.log", "true"], "no option --memory"),
    (["JOB=0:3", "x.JOB.log", "true"], "jobs count from 1"),
    (["JOB=1:3", "x.log", "true"], "needs JOB in its name"),
    (["x.log"], "name a log file and a command"),
])
def test_wrong_usage(arguments: list[str], problem: str, tmp_path: Path, environment: dict[str, str]) -> None:
    finished = run("run.pl", tmp_path, environment, *arguments)
    assert finished.returncode == 2 and problem in finished.stderr and "usage: run.pl [--max-jobs-run N]" in finished.stderr
    assert not list(tmp_path.glob("*.log"))
