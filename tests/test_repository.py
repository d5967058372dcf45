"""House rules about the repository itself, checked on the files that git tracks."""
from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 600
LONGEST_RECIPE = 150

REGISTRY = re.compile(
    r"pypi\.(org|python\.org)|pythonhosted\.org|download\.pytorch\.org|conda\.anaconda\.org|--(extra-)?index-url", re.IGNORECASE
)
MACHINE_PATH = re.compile(r"(?<![\w.])/(root|home/\w+|Users/\w+|work|mnt/\w+)/")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Tracked files that exist, relative to the root."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    files = [Path(name) for name in listing.split("\0") if name]
    return [path for path in files if (ROOT / path).is_symlink() or (ROOT / path).is_file()]


def lines_of(path: Path) -> list[str]:
    """Lines of a text file; none of a binary one."""
    content = (ROOT / path).read_bytes()
    return [] if b"\0" in content[:8192] else content.decode("utf-8", errors="replace").splitlines()


def matches(files: list[Path], pattern: re.Pattern[str]) -> list[str]:
    this = Path(__file__).relative_to(ROOT)
    return [
        f"{path}:{number}: {found[0]}"
        for path in files
        if path != this
        for number, line in enumerate(lines_of(path), 1)
        if (found := pattern.search(line))
    ]


def test_no_symlinks(tracked: list[Path]) -> None:
    assert [path for path in tracked if (ROOT / path).is_symlink()] == []


def test_no_registry_is_named(tracked: list[Path]) -> None:
    """The package index is whatever the user's pip is set up with."""
    assert matches(tracked, REGISTRY) == []


def test_no_path_of_one_machine(tracked: list[Path]) -> None:
    assert matches(tracked, MACHINE_PATH) == []


def test_programs_are_short(tracked: list[Path]) -> None:
    programs = [path for path in tracked if path.suffix in (".py", ".sh", ".pl")]
    assert programs
    assert [f"{path}: {len(lines_of(path))} lines" for path in programs if len(lines_of(path)) > LONGEST_FILE] == []


def test_recipes_hold_no_code_of_their_own(tracked: list[Path]) -> None:
    """Python under egs/ only where a corpus has its own prepare.py; run.sh short."""
    recipes = [path for path in tracked if path.parts[0] == "egs"]
    assert [path for path in recipes if path.suffix == ".py" and path.name != "prepare.py"] == []
    too_long = [path for path in recipes if path.name == "run.sh" and len(lines_of(path)) > LONGEST_RECIPE]
    assert too_long == []


def test_scripts_can_be_run_and_parsed(tracked: list[Path]) -> None:
    scripts = [path for path in tracked if path.suffix in (".sh", ".pl") or path == Path(".ci/run")]
    assert scripts
    for path in scripts:
        subprocess.run(["bash", "-n", str(ROOT / path)], check=True)
        first = (lines_of(path) or [""])[0]
        assert first.startswith("#!") == bool((ROOT / path).stat().st_mode & 0o100), f"{path}: executable exactly where it has a #! line"
