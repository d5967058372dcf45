"""Fixtures every test may use."""
from __future__ import annotations

import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all programs that the tests of Ctrl-C start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real corpora and reference outputs that may stand beside the checkout."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("the folder ../shared with real corpora and reference outputs is absent")
    return path
