from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from asr import hypotheses
from asr.hypotheses import Header, Utterance
from asr.score import calibration, ledger, provenance
from asr.score.evaluate import score_file, score_split
from asr.score.results import results, scales_text, terminal_table, write_results
from asr.source import source
from asr.types import Word

REFERENCES = ["turn the volume up to fifty percent", "set a timer for fifteen minutes", "five times nine", "room three please"] * 5
WORSE = [text.replace("fifty", "fifteen").replace("nine", "five") for text in REFERENCES]
BETTER = [text.replace("five times nine", "five times five") for text in REFERENCES]


def decode(directory: Path, search: str, texts: list[str], **header: object) -> Path:
    path = directory / f"{search}.jsonl"
    values = {"search": search, "split": directory.name, "settings": {"beam": 4}, "seconds": 2.0, "audio_seconds": 40.0,
              "checkpoint": "epochs 9 to 12", "complete": True, **header}
    hypotheses.write(path, Header(**values), [  # type: ignore[arg-type]
        Utterance(f"u{i}", ref, hyp, f"s{i % 4}", 2.0) for i, (ref, hyp) in enumerate(zip(REFERENCES, texts))])
    return path


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    directory = tmp_path / "exp"
    decode(directory / "decode" / "test", "modified_beam", WORSE)
    decode(directory / "decode" / "test", "modified_beam_lm", BETTER, scales={"ngram": 0.3}, tuned_on="dev")
    (directory / "config.yaml").write_text("name: tiny\n")
    (directory / "train_summary.json").write_text(json.dumps({
        "steps": 100, "epochs": 4, "seconds": 61.0, "audio_hours": 3.5, "parameters": 1234567, "device": "cpu, 2 threads", "processes": 1,
        "commit": None, "dirty": None, "command": "asr train --config tiny.yaml", "seed": 42, "init_from": "../old"}))
    return directory


def rows_of(exp: Path, **options: object) -> list[ledger.Row]:
    return score_split(exp / "decode" / "test", "tiny", exp, command="asr score --splits test", **options)  # type: ignore[arg-type]


def test_rows_state_the_facts(exp: Path) -> None:
    better, worse = rows_of(exp)
    assert (better.search, worse.search) == ("modified_beam_lm", "modified_beam")
    assert (worse.utterances, worse.words, worse.substitutions, worse.deletions, worse.insertions) == (20, 95, 10, 0, 0)
    assert worse.wer == pytest.approx(10 / 95) and worse.wer_low < worse.wer < worse.wer_high
    assert worse.real_time_factor == 0.05 and worse.against is None and worse.training is not None
    assert better.tuned_on == "dev" and better.scales == {"ngram": 0.3}
    assert better.against is not None and better.against["search"] == "modified_beam"
    assert better.against["difference"] == pytest.approx(-5 / 95) and better.against["probability_better"] > 0.9
    assert worse.hardware["cores"] == os.cpu_count()


def test_reports_lie_beside_the_hypotheses(exp: Path) -> None:
    rows_of(exp)
    directory = exp / "decode" / "test"
    assert "fifty -> fifteen" in (directory / "modified_beam.errors.txt").read_text()
    assert (directory / "modified_beam_lm.per_speaker.txt").read_text().startswith("speaker")


def test_scoring_again_changes_nothing(exp: Path, tmp_path: Path) -> None:
    path, markdown = tmp_path / "ledger.jsonl", tmp_path / "RESULTS.md"
    contents = []
    for _ in range(2):
        rows = [replace(row, commit=None, dirty=None) for row in rows_of(exp)]  # the checkout may change while the test runs
        ledger.append(path, rows)
        write_results(path, markdown)
        contents.append((path.read_bytes(), markdown.read_bytes()))
        assert ledger.read(path) == rows
    assert contents[0] == contents[1]


def test_another_config_adds_rows_and_results_show_the_newest(exp: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, rows_of(exp))
    (exp / "config.yaml").write_text("name: tiny\nseed: 2\n")
    newer = [replace(row, substitutions=77) for row in rows_of(exp)]
    ledger.append(path, newer)
    assert len(ledger.read(path)) == 4
    text = results(ledger.read(path))
    assert text.count("| tiny | modified_beam |") == 1 and "| 77 |" in text
    assert "Scored with several settings" not in text


def test_results_say_by_how_many_settings_a_model_was_scored(exp: Path) -> None:
    rows = rows_of(exp)
    wider = [replace(row, config_hash="wider", settings={**row.settings, "beam": 64}) for row in rows if row.search == "modified_beam"]
    retrained = [replace(row, checkpoint="another", settings={**row.settings, "beam": 99}) for row in wider]
    newer_program = [replace(row, config_hash="new", settings={**row.settings, "an_option_since": 1}) for row in rows]
    assert "Scored with several settings" not in results([*retrained, *rows, *newer_program])
    assert "Scored with several settings, of which the newest is shown: tiny modified_beam (2)." in results([*rows, *wider])


def test_results_hold_what_reproduces_them(exp: Path) -> None:
    text = results(rows_of(exp))
    line = next(line for line in text.splitlines() if line.startswith("| tiny | modified_beam_lm |"))
    assert "| 5 | 0 | 0 |" in line and "ngram 0.3 (tuned on dev)" in line and "modified_beam |" in line and "| 0.0500 |" in line
    for fact in ("1,234,567", "4 epochs, 3.5 h of audio, 61 s on cpu, 2 threads, starting from ../old", "epochs 9 to 12",
                 "    asr train --config tiny.yaml",
                 "20 utterances, 95 words, 0.7 minutes", "over utterances"):
        assert fact in text, fact
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| tiny | mod")}) == 1


def test_results_without_training_summary_and_with_cheating(exp: Path) -> None:
    (exp / "train_summary.json").unlink()
    decode(exp / "decode" / "test", "modified_beam_lm", BETTER, scales={"ngram": 0.3}, tuned_on="test")
    with pytest.raises(ValueError, match=r"tuned on 20 of its 20 utterances \(of 'test'\).*--tuned-on-test"):
        rows_of(exp)
    rows = rows_of(exp, tuned_on_test=True)
    assert [row.seen_in_tuning for row in rows] == [20, 0]
    text = results(rows)
    assert "ngram 0.3 (tuned on this very set)" in text and "epochs," not in text
    (exp / "train_summary.json").write_text("[")
    with pytest.raises(ValueError, match="train_summary.json: not a JSON object"):
        rows_of(exp, tuned_on_test=True)


def test_a_search_decoded_without_its_tuning_is_marked(exp: Path) -> None:
    decode(exp / "decode" / "test", "modified_beam", WORSE, settings={"tune": {"beam": [2, 4]}})
    assert [scales_text(row) for row in rows_of(exp)] == ["ngram 0.3 (tuned on dev)", "not tuned"]


def test_utterances_of_the_tuned_set_within_a_test_set_are_found_by_id(exp: Path) -> None:
    decode(exp / "decode" / "dev", "modified_beam_lm", BETTER[:5])
    with pytest.raises(ValueError, match=r"tuned on 5 of its 20 utterances \(of 'dev'\)"):
        rows_of(exp)
    row = rows_of(exp, tuned_on_test=True)[0]
    assert row.seen_in_tuning == 5 and "tuned on dev, which has 5 of these utterances" in results([row])


def test_confidences_are_judged_as_they_are_and_as_calibrated(exp: Path) -> None:
    for split, wrong in (("dev", 0.5), ("test", 0.5)):
        path = decode(exp / "decode" / split, "modified_beam", WORSE)
        header, utterances = hypotheses.read(path).header, hypotheses.read(path).utterances
        hypotheses.write(path, header, [replace(u, id=f"{split}-{u.id}", words=tuple(
            Word(h, confidence=0.999 if h == r else wrong) for r, h in zip(u.ref.split(), u.hyp.split()))) for u in utterances])
    (exp / "decode" / "test" / "modified_beam_lm.jsonl").unlink()
    assert rows_of(exp)[0].ece_calibrated is None and rows_of(exp)[0].ece == pytest.approx((10 * 0.5 + 85 * 0.001) / 95)
    calibration.calibrate([exp / "decode" / "dev" / "modified_beam.jsonl"], exp / "decode" / "calibration.json")
    row = rows_of(exp)[0]
    assert row.ece_calibrated is not None and row.ece is not None and row.ece_calibrated < 0.03 < row.ece
    assert f"{100 * row.ece:.1f} -> {100 * row.ece_calibrated:.1f}" in terminal_table([row])
    decode(exp / "decode" / "test", "modified_beam", WORSE, settings={"beam": 8})
    assert rows_of(exp)[0].ece_calibrated is None


def test_rows_of_an_older_ledger_are_read(exp: Path, tmp_path: Path) -> None:
    rows = rows_of(exp)
    values = [{name: value for name, value in asdict(row).items() if name not in ("mer", "ece", "ece_calibrated", "seen_in_tuning")}
              for row in rows]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    assert [row.wer for row in ledger.read(tmp_path / "ledger.jsonl")] == [row.wer for row in rows]


def test_terminal_table_has_a_line_per_search(exp: Path) -> None:
    lines = terminal_table(rows_of(exp)).splitlines()
    assert [line.split()[0] for line in lines] == ["search", "modified_beam_lm", "modified_beam"]
    assert "10.53 [" in lines[2]


def test_intervals_over_speakers(exp: Path) -> None:
    rows = rows_of(exp, over="speakers")
    assert rows[0].interval_over == "speakers" and rows[0].wer == rows_of(exp)[0].wer
    assert (rows[1].wer_low, rows[1].wer_high) != (rows_of(exp)[1].wer_low, rows_of(exp)[1].wer_high)
    path = exp / "decode" / "test" / "modified_beam.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"s0"', "null"), *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match="modified_beam.jsonl: the speaker of 'u0' is not known"):
        rows_of(exp, over="speakers")


def test_incomplete_or_missing_decodings_are_refused(exp: Path, tmp_path: Path) -> None:
    path = decode(tmp_path / "dev", "greedy", WORSE, complete=False)
    with pytest.raises(ValueError, match="greedy.jsonl: not every utterance"):
        score_file(path)
    with pytest.raises(ValueError, match="nothing decoded here; run 'asr decode --splits dev2'"):
        score_split(tmp_path / "dev2", "tiny", exp, command="")
    empty = tmp_path / "dev" / "none.jsonl"
    hypotheses.write(empty, Header("none", "dev", {}, 1.0, 1.0, "", True), [Utterance("u", "", "a")])
    with pytest.raises(ValueError, match="none.jsonl: no reference word"):
        score_file(empty)


def test_a_spoilt_ledger_is_named_by_line(exp: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, rows_of(exp))
    good = path.read_text()
    path.write_text(good + '{"wer": 0')
    with pytest.raises(ValueError, match=r"ledger.jsonl:3: not JSON"):
        ledger.append(path, rows_of(exp))
    path.write_text(good + '{"wer": 0}\n')
    with pytest.raises(ValueError, match=r"ledger.jsonl:3: not a row"):
        ledger.read(path)


def test_writers_at_the_same_time_lose_nothing(exp: Path, tmp_path: Path) -> None:
    path, rows = tmp_path / "ledger.jsonl", rows_of(exp)
    context = get_context("fork")
    writers = [context.Process(target=ledger.append, args=(path, [replace(rows[0], experiment=f"e{i}")])) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {row.experiment for row in ledger.read(path)} == {f"e{i}" for i in range(8)}


def test_provenance_is_of_this_checkout() -> None:
    commit = source().commit
    assert commit is None or len(commit) == 40
    assert provenance.hardware().cpu


def test_input_is_compared_where_some_of_it_is_units(exp: Path) -> None:
    """By a search that every experiment has, and that no language model helps."""
    fbank, units = ({"name": name, "units": name == "units", "frames": frames, "bits": bits}
                    for name, frames, bits in (("fbank", 100.0, 128000), ("units", 34.5, 378)))
    plain = rows_of(exp, input=fbank)
    other = [replace(row, experiment="dense", input=units, wer=0.5) for row in rows_of(exp)]
    alone = replace(other[0], search="greedy", scales={}, wer=0.0)
    old = [replace(row, experiment="old", input=None) for row in rows_of(exp)]
    assert "bits per second" not in results(plain + old)
    text = results([*plain, *old, *other, alone])
    table = text[text.index("What the models read") :].split("\n\n")[1].splitlines()[2:]
    assert "by the search modified_beam." in text and [line.split(" | ")[:4] for line in table] == [
        ["| tiny", "fbank", "128,000", "100"], ["| dense", "units", "378", "34.5"]]
    assert "| 61 (15 per epoch) |" in table[0]
