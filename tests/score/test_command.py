from __future__ import annotations

from pathlib import Path

import pytest

from asr import hypotheses
from asr.cli.main import main
from asr.hypotheses import Header, Utterance

CONFIG = Path(__file__).resolve().parents[2] / "egs" / "yesno" / "conf" / "base.yaml"


def score(exp: Path, results: Path, *splits: str) -> int:
    return main(["score", "--config", str(CONFIG), "--exp-dir", str(exp), "--splits", *splits, "--results-dir", str(results)])


def test_scores_every_search_of_every_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("adults", "children"):
        for search, hyp in (("greedy", "yes yes"), ("beam", "yes no")):
            hypotheses.write(tmp_path / "exp" / "decode" / split / f"{search}.jsonl", Header(search, split, {}, 1.0, 2.0, "epoch 1", True),
                             [Utterance("u1", "yes no", hyp, "s1", 2.0)])
    assert score(tmp_path / "exp", tmp_path / "results", "adults", "children") == 0
    printed = capsys.readouterr().out
    assert "adults: 1 utterances, 2 words" in printed and "50.00 [50.00, 50.00]" in printed
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    assert text.index("## adults") < text.index("## children") < text.index("## How they were made")
    assert len((tmp_path / "results" / "ledger.jsonl").read_text().splitlines()) == 4
    assert (tmp_path / "exp" / "decode" / "children" / "beam.errors.txt").exists()


def test_says_what_to_do_where_nothing_is_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(tmp_path / "exp", tmp_path, "test") == 2
    assert "nothing decoded here; run 'asr decode --splits test' first" in capsys.readouterr().err
    assert not (tmp_path / "RESULTS.md").exists()


def written(path: Path, *hyps: str, ref: str = "yes no") -> Path:
    hypotheses.write(path, Header(path.stem, "test", {}, 1.0, 2.0, "epoch 1", True),
                     [Utterance(f"u{i}", ref, hyp, "s1", 2.0) for i, hyp in enumerate(hyps)])
    return path


def test_compare_two_files_and_two_experiments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (tmp_path / name / "decode" / "test" / "greedy.jsonl" for name in "ab")
    written(a, *["yes yes"] * 8), written(b, *["yes no"] * 8)
    for arguments in ([a, b], [tmp_path / "a", tmp_path / "b"], [a.parent, b.parent]):
        assert main(["compare", *map(str, arguments)]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert "greedy" in line and "-50.00 [-50.00, -50.00]" in line and "0.0002" in line and "0.0078" in line


def test_compare_says_why_it_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = written(tmp_path / "a" / "x.jsonl", "yes no"), written(tmp_path / "b" / "x.jsonl", "yes no", ref="no no")
    c = written(tmp_path / "c" / "y.jsonl", "yes no", "no")
    for first, second, message in [
        (a, b, "utterance 'u0' is missing from the other system, or has another reference"), (a, c, "'u1' is missing"),
        (a.parent, c.parent, "no decoded set and search in common; the first has x, the second y"), (a, c.parent, "two of a kind"),
        (a, tmp_path / "nothing", "nothing: no such file"),
    ]:
        assert main(["compare", str(first), str(second)]) == 2
        assert message in capsys.readouterr().err
