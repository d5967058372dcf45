"""asr bench: each benchmark runs and prints its table."""
from __future__ import annotations

import pytest

from asr.cli.bench import BENCHMARKS
from asr.cli.main import main

TINY = {
    "losses": ("--sizes", "2,12,4,9", "--seconds", "0"),
    "search": ("--vocabulary", "9", "--dim", "16", "--utterances", "2", "--beams", "2", "--seconds", "0", "--scorers"),
}
"""The other two measure models of published sizes: seconds, here."""


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", name, *TINY[name]]) == 0
    printed = capsys.readouterr().out
    assert {"losses": "pruned_tdt", "search": "beam 2"}[name] in printed


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in BENCHMARKS)
