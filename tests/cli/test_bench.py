"""asr bench: each benchmark runs and prints its table."""
from __future__ import annotations

from pathlib import Path

import pytest

from asr.cli.bench import BENCHMARKS
from asr.cli.main import main
from tests.cli.test_decode import root, trained  # noqa: F401  fixtures

TINY = {
    "losses": ("--sizes", "2,12,4,9", "--seconds", "0"),
    "search": ("--vocabulary", "9", "--dim", "16", "--utterances", "2", "--beams", "2", "--seconds", "0", "--scorers"),
}
"""Some of the others measure models of published sizes: seconds, here."""


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", name, *TINY[name]]) == 0
    printed = capsys.readouterr().out
    assert {"losses": "pruned_tdt", "search": "beam 2"}[name] in printed


def test_decoding_with_a_trained_model(root: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    command = ["bench", "decode", "--exp-dir", "exp", "--split", "dev", "--minutes", "0.02", "--seconds", "0"]
    assert main([*command, "--hours", "0.004", "--recording-hours", "0.004"]) == 0
    printed = capsys.readouterr().out
    rows = {line[:28].strip(): line[28:].split() for line in printed.splitlines()}
    parts = ["features", "encoder", "greedy", "beam 4", "beam 4, hot words, n-gram"]
    assert all(float(rows[part][0]) > 0 for part in parts)
    assert "beam 4, hot words, n-gram: 0.00 h in 20 utterances" in printed and "a recording of 0.004 h, cut at pauses" in printed
    assert printed.count("after 4/4: ") == 2 and "peak memory of the process" in printed


def test_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in BENCHMARKS)
