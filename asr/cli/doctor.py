"""What this environment has, what is missing, what is lost without it, and the command that brings it.

Everything is really imported: a broken wheel is reported as broken. Exit status 0 where training and decoding are possible, else 1.
"""
from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from asr import __version__, environment
from asr.environment import Finding, Gpu

COLUMN = 20
LOW_DISK_GB = 5.0
LOW_MEMORY_GB = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    total_gb, available_gb = environment.memory_gb()
    machine = {
        "asr": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.machine()}",
        "processors": environment.processors(),
        "memory_gb": round(total_gb, 1),
        "memory_available_gb": round(available_gb, 1),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
    }
    if not args.json:
        _print_machine(machine)
    findings = []
    for finding in environment.examine(environment.PARTS):
        findings.append(finding)
        if not args.json:
            _print_finding(finding)
    states = {finding.name: finding.state for finding in findings}
    gpus = environment.gpus() if states["torch"] == "ok" else []
    ready = all(finding.state == "ok" for finding in findings if finding.required)
    if args.json:
        report = {
            "ready": ready, "machine": machine, "parts": [asdict(f) for f in findings],
            "gpus": [asdict(gpu) for gpu in gpus], "engines": environment.engines(findings),
        }
        print(json.dumps(report, indent=2))
    else:
        _print_gpus(gpus)
        for job, engine in environment.engines(findings).items():
            _line(job, engine)
        broken = [f.name for f in findings if f.required and f.state != "ok"]
        print("\nReady to train and decode." if ready else f"\nNot ready: {', '.join(broken)} must be repaired first.")
    return 0 if ready else 1


def _line(name: str, text: str) -> None:
    print(f"{name:<{COLUMN}}{text}", flush=True)


def _print_machine(machine: dict[str, object]) -> None:
    _line("asr", f"{machine['asr']}")
    _line("Python", f"{machine['python']}  {machine['executable']}")
    _line("machine", f"{machine['system']}, {machine['processors']} processors")
    memory, disk = float(str(machine["memory_available_gb"])), float(str(machine["disk_free_gb"]))
    little_memory = ", little: use smaller batches" if memory < LOW_MEMORY_GB else ""
    little_disk = ", little: make room, or use --data-dir and --exp-dir" if disk < LOW_DISK_GB else ""
    _line("memory", f"{memory} of {machine['memory_gb']} GB available{little_memory}")
    _line("disk", f"{disk} GB free here{little_disk}")


def _print_finding(finding: Finding) -> None:
    if finding.state == "ok":
        _line(finding.name, finding.detail)
        return
    detail = "" if finding.state == "missing" else f" ({finding.detail})"
    _line(finding.name, f"{finding.state.upper()}{detail}; lost: {finding.lost}")
    _line("", f"-> {finding.fix}")


def _print_gpus(gpus: list[Gpu]) -> None:
    for gpu in gpus:
        major, minor = gpu.capability
        _line("GPU", f"{gpu.name}, {gpu.memory_gb:.0f} GB, compute capability {major}.{minor}")
        if not gpu.has_kernels:
            _line("", "NO KERNELS for it in this torch: training on it is impossible")
            _line("", "-> make env STACK=modern")
    if not gpus:
        unused = environment.gpus_of_driver()
        _line("GPU", f"{', '.join(unused)}: NOT SEEN by this torch; training on the CPU only" if unused else "none; training on the CPU")
        if unused:
            _line("", "-> update the driver, or install a torch built for the CUDA that 'nvidia-smi' names")
