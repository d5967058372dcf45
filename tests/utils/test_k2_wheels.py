"""Reading k2's page of wheels and choosing from it."""
from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "utils" / "k2_wheels.py"
spec = importlib.util.spec_from_file_location("k2_wheels", PROGRAM)
assert spec is not None and spec.loader is not None
k2_wheels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(k2_wheels)

LINUX = ("Linux", "x86_64")


def name(release: str = "1.24.4.dev20250715", device: str = "cpu", torch: str = "2.7.1", python: str = "311", platform: str = "") -> str:
    platform = platform or "manylinux_2_17_x86_64.manylinux2014_x86_64"
    return f"k2-{release}+{device}.torch{torch}-cp{python}-cp{python}-{platform}.whl"


def page(*names: str, folder: str = "wheels") -> str:
    links = (f'<a href="{folder}/{n.replace("+", "%2B")}">{n}</a><br/>' for n in names)
    return "<html><body>\n" + "\n".join(links) + '\n<a href="index.html">up</a> <a href="torch-2.7.1-cp311-cp311-x.whl">t</a></body></html>'


def parse(*names: str) -> list[k2_wheels.Wheel]:  # type: ignore[name-defined]
    return k2_wheels.parse_page(page(*names), "https://somewhere/k2/cpu.html")


def test_every_part_of_a_name_is_read_and_other_links_are_passed_over() -> None:
    cpu, cuda = parse(name(), name("1.24.4", "cuda12.8", "2.8.0", "313", "manylinux_2_28_x86_64"))
    assert cpu == ((1, 24, 4, 20250715), "2.7.1", "", "3.11", "manylinux_2_17_x86_64.manylinux2014_x86_64", cpu.address)
    assert cpu.address == "https://somewhere/k2/wheels/" + name().replace("+", "%2B")
    assert (cuda.release, cuda.torch, cuda.cuda, cuda.python) == ((1, 24, 4, 0), "2.8.0", "12.8", "3.13")


def test_the_newest_torch_wins_then_the_newest_k2_then_the_python_named_first() -> None:
    names = [
        name(release, torch=torch, python=python)
        for release, torch, python in itertools.product(
            ["1.24.3", "1.24.4.dev20250101", "1.24.4.dev20250715"], ["2.9.1", "2.10.0"], ["311", "312"]
        )
    ]
    for order in (names, names[::-1]):
        chosen = k2_wheels.choose(parse(*order), ["3.12", "3.11"], LINUX)
        assert (chosen.torch, chosen.release[-1], chosen.python) == ("2.10.0", 20250715, "3.12")
        assert k2_wheels.choose(parse(*order), ["3.11"], LINUX).python == "3.11"


@pytest.mark.parametrize(
    "unfit",
    [
        name(torch="2.3.1"),  # too old
        name(python="310"),  # not an available Python
        name(platform="macosx_11_0_arm64"),
        name(platform="win_amd64"),
        name(platform="manylinux_2_17_aarch64.manylinux2014_aarch64"),
    ],
)
def test_what_cannot_work_is_never_chosen(unfit: str) -> None:
    assert k2_wheels.choose(parse(unfit), ["3.11", "3.12"], LINUX) is None
    assert k2_wheels.choose(parse(unfit, name()), ["3.11", "3.12"], LINUX).torch == "2.7.1"


def test_a_wheel_for_exactly_what_is_installed() -> None:
    wheels = parse(*(name(device=d, torch=t) for d in ("cpu", "cuda12.6", "cuda12.8") for t in ("2.7.1", "2.8.0")))
    chosen = k2_wheels.choose(wheels, ["3.11"], LINUX, torch="2.7.1", cuda="12.6")
    assert (chosen.torch, chosen.cuda) == ("2.7.1", "12.6")
    assert k2_wheels.choose(wheels, ["3.11"], LINUX, torch="2.7.1", cuda="").cuda == ""
    assert k2_wheels.choose(wheels, ["3.11"], LINUX, torch="2.7.1", cuda="13.0") is None


@pytest.mark.parametrize(
    ("platform", "system"),
    [("macosx_11_0_arm64", ("Darwin", "arm64")), ("macosx_11_0_universal2", ("Darwin", "x86_64")), ("win_amd64", ("Windows", "AMD64"))],
)
def test_other_systems(platform: str, system: tuple[str, str]) -> None:
    assert k2_wheels.choose(parse(name(platform=platform)), ["3.11"], system) is not None
    assert not k2_wheels.runs_on(platform, *LINUX)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)


def test_the_program_reads_a_page_from_disk(tmp_path: Path) -> None:
    both = [name(platform=p) for p in ("manylinux_2_17_x86_64", "manylinux_2_17_aarch64", "macosx_11_0_universal2", "macosx_11_0_arm64")]
    (tmp_path / "cpu.html").write_text(page(*both), encoding="utf-8")
    answer = run((tmp_path / "cpu.html").as_uri(), "--python", "3.11")
    assert answer.returncode == 0, answer.stderr
    python, torch, address = answer.stdout.split()
    assert (python, torch) == ("3.11", "2.7.1") and address.startswith((tmp_path / "wheels").as_uri())


def test_the_program_says_why_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "cpu.html").write_text(page(name()), encoding="utf-8")
    unfit = run((tmp_path / "cpu.html").as_uri(), "--python", "3.14")
    assert unfit.returncode == 1 and "none of the 1 wheels" in unfit.stderr and "3.14" in unfit.stderr
    absent = run((tmp_path / "absent.html").as_uri(), "--python", "3.11")
    assert absent.returncode == 1 and "cannot be reached" in absent.stderr and len(absent.stderr.splitlines()) == 1
