"""A recipe that is stopped in every stage, and started again, ends with the bits of one that was not."""
from __future__ import annotations

import random
import signal
import subprocess

import pytest

from tests.recipes.conftest import Finished
from tests.recipes.recipe import contents, differences

STATUS = {signal.SIGINT: {130, -signal.SIGINT}, signal.SIGKILL: {-signal.SIGKILL}}
"""What run.sh ends with: its program's status, or the signal itself where that hit the shell between two programs."""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_stopped_in_every_stage(numbers: Finished, how: signal.Signals) -> None:
    dice = random.Random(int(how))
    with numbers.again() as recipe:
        for stage, changes in numbers.changes.items():
            change = dice.randint(1, changes)
            stopped = recipe.stop_stage(stage, change, how)
            where = f"stage {stage}, change {change} of {changes}:\n"
            assert stopped.returncode in STATUS[how], where + stopped.stderr
            assert "Traceback" not in stopped.stderr, where + stopped.stderr
            finished = recipe.run_stage(stage)
            assert finished.returncode == 0, where + finished.stderr
        assert differences(contents(recipe.directory), numbers.contents) == []


def test_a_full_disk_in_features_and_in_training(numbers: Finished) -> None:
    too_small = (numbers.recipe.exp / "checkpoints/epoch-1.pt").stat().st_size // 1024 - 10  # but enough before there is optimizer state
    with numbers.again("corpus", "data/manifests", "data/lang_bpe_40") as recipe:
        check_error(recipe.run_stage(2, largest_file=20), "data/fbank_20/train/00000.f16: File too large")
        assert not list(recipe.data.glob("fbank_20/*.jsonl.gz"))
        finished = recipe.run_stage(2)
        assert finished.returncode == 0, finished.stderr
        check_error(recipe.run_stage(6, largest_file=too_small), "exp/checkpoints/step-2.pt: File too large")
        assert [path.name for path in (recipe.exp / "checkpoints").iterdir()] == ["step-0.pt"]
        finished = recipe.run("--stage", "6")
        assert finished.returncode == 0, finished.stderr
        assert differences(contents(recipe.directory), numbers.contents) == []


def check_error(finished: subprocess.CompletedProcess[str], message: str) -> None:
    """The run failed, and says why in one line, its last."""
    assert finished.returncode == 1
    *before, last = finished.stderr.strip().splitlines()
    assert last.startswith("error: ") and message in last and "run the same command again" in last
    assert not any(line.startswith(("error", "Traceback")) for line in before), finished.stderr
