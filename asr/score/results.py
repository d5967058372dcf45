"""RESULTS.md, made from the ledger."""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.files import atomic_write
from asr.score.ledger import Row, read
from asr.score.report import table


def write_results(ledger: Path, path: Path) -> None:
    with atomic_write(path) as file:
        file.write(results(read(ledger)))


def results(rows: Iterable[Row]) -> str:
    """Markdown: a table per set, of the newest row of each experiment and search, and what is needed to get them again."""
    rows = list(rows)
    newest = list({_shown_as(row): row for row in rows}.values())
    experiments = list(dict.fromkeys(row.experiment for row in newest))
    newest.sort(key=lambda row: (experiments.index(row.experiment), row.wer))
    tries = {_shown_as(row): _tries(row, rows) for row in newest}
    lines = ["# Results", "", "Made by `asr score` from the ledger beside this file; edit neither."]
    for split in dict.fromkeys(row.split for row in newest):
        of_split = [row for row in newest if row.split == split]
        lines += ["", f"## {split}", "", *_split_table(of_split), *_input_table(of_split)]
        often = [f"{row.experiment} {row.search} ({tries[_shown_as(row)]})" for row in of_split if tries[_shown_as(row)] > 1]
        if often:
            lines += ["", f"Scored with several settings, of which the newest is shown: {', '.join(often)}."]
    lines += ["", "## How they were made", "", *_experiment_table({row.experiment: row for row in newest}.values())]
    return "\n".join(lines) + "\n"


def _shown_as(row: Row) -> tuple[str, str, str]:
    return row.split, row.experiment, row.search


def _tries(newest: Row, rows: Sequence[Row]) -> int:
    """With how many settings this set was scored by one search of one model: more than one, and the set helped to choose."""
    distinct: list[Mapping[str, Any]] = []
    for row in rows:
        same_model = _shown_as(row) == _shown_as(newest) and row.checkpoint == newest.checkpoint
        if same_model and not any(_agree(row.settings, other) for other in distinct):
            distinct.append(row.settings)
    return len(distinct)


def _agree(settings: Any, other: Any) -> bool:
    """Settings that a later version added do not tell two apart."""
    if isinstance(settings, Mapping) and isinstance(other, Mapping):
        return all(_agree(settings[key], other[key]) for key in settings.keys() & other.keys())
    return bool(settings == other)


def terminal_table(rows: Sequence[Row]) -> str:
    """What the command prints for one set."""
    return table([("search", *_COLUMNS), *[(row.search, *_cells(row)) for row in rows]])


def _split_table(rows: Sequence[Row]) -> list[str]:
    sizes = dict.fromkeys(f"{row.utterances} utterances, {row.words} words, {row.audio_seconds / 60:.1f} minutes" for row in rows)
    units = dict.fromkeys(row.interval_over for row in rows)
    cells = [(row.experiment, row.search, *_cells(row)) for row in rows]
    return [
        f"{'; '.join(sizes)}. In brackets: 95 % bootstrap interval over {' or '.join(units)}. "
        "RTF: real-time factor of decoding; search RTF: its part after the encoder. ECE: calibration error of the words' confidences.", "",
        *_markdown(("experiment", "search", *_COLUMNS), cells),
    ]


def _input_table(rows: Sequence[Row]) -> list[str]:
    """What different input brings and costs, where some of it is units: by one search without a language model, if all have such a one."""
    known = [row for row in rows if row.input is not None]
    if not any(row.input["units"] for row in known if row.input is not None):
        return []
    experiments = {row.experiment for row in known}
    by_search: dict[str, list[Row]] = {}
    for row in known:
        by_search.setdefault(row.search, []).append(row)
    shared = [found for found in by_search.values() if len(found) == len(experiments) and not any(row.scales for row in found)]
    if not shared:
        return []
    chosen = min(shared, key=lambda found: sum(row.wer for row in found))
    columns = ("experiment", "input", "bits per second", "frames or units per second", "WER % [95 %]", "training, s", "RTF", "search RTF")
    cells = []
    for row in chosen:
        read, trained = dict(row.input or {}), row.training or {}
        seconds, epochs = trained.get("seconds"), trained.get("epochs")
        training = f"{seconds:,.0f} ({seconds / epochs:,.0f} per epoch)" if seconds and epochs else ""
        cells.append((row.experiment, read["name"], f"{read['bits']:,}", f"{read['frames']:g}", wer_text(row), training,
                      _factor(row.real_time_factor), _factor(row.search_real_time_factor)))
    title = f"What the models read, and what came of it by the search {chosen[0].search}. Bits of numbers are those of their archives."
    return ["", title, "", *_markdown(columns, cells)]


_COLUMNS = ("WER % [95 %]", "S", "D", "I", "CER %", "ECE %", "RTF", "search RTF", "scales", "WER against")


def _cells(row: Row) -> tuple[str, ...]:
    others = {"MER": row.mer, "wrong language": row.language_error}
    known = ", ".join(f"{name} {100 * rate:.2f}" for name, rate in others.items() if rate is not None)
    character_rate = f"{100 * row.cer:.2f}" + (f" ({known})" if known else "")
    return (wer_text(row), str(row.substitutions), str(row.deletions), str(row.insertions), character_rate, ece_text(row),
            _factor(row.real_time_factor), _factor(row.search_real_time_factor), scales_text(row), against_text(row))


def wer_text(row: Row) -> str:
    """As "2.72 [1.92, 3.63], oracle 0.90", the last where the search kept n-best lists."""
    oracle = "" if row.oracle_wer is None else f", oracle {100 * row.oracle_wer:.2f}"
    return f"{100 * row.wer:.2f} [{100 * row.wer_low:.2f}, {100 * row.wer_high:.2f}]{oracle}"


def _factor(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def ece_text(row: Row) -> str:
    """Calibration error of confidences, as "8.1 -> 2.0" where they were calibrated."""
    after = "" if row.ece_calibrated is None else f" -> {100 * row.ece_calibrated:.1f}"
    return "" if row.ece is None else f"{100 * row.ece:.1f}{after}"


def scales_text(row: Row) -> str:
    if not row.scales:
        return "not tuned" if row.settings.get("tune") else ""
    scales = ", ".join(f"{name} {scale:g}" for name, scale in row.scales.items())
    origin = "this very set" if row.tuned_on == row.split or row.seen_in_tuning == row.utterances else row.tuned_on
    if 0 < row.seen_in_tuning < row.utterances:
        origin = f"{origin}, which has {row.seen_in_tuning} of these utterances"
    return f"{scales} (tuned on {origin})" if origin else f"{scales} (not tuned)"


def against_text(row: Row) -> str:
    """As "-0.42 [-0.70, -0.15] modified_beam": by how much, with its interval, and which search."""
    if row.against is None:
        return ""
    low, high = row.against["interval"]
    return f"{100 * row.against['difference']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] {row.against['search']}"


def _experiment_table(rows: Iterable[Row]) -> list[str]:
    columns = ["experiment", "config", "parameters", "training", "seed", "checkpoint", "source", "decoded", "scored on"]
    cells, commands = [], []
    for row in rows:
        summary = row.training or {}
        budget = [f"{summary[key]:,.{digits}f} {unit}" for key, digits, unit in
                  (("epochs", 0, "epochs"), ("audio_hours", 1, "h of audio"), ("seconds", 0, "s"), ("memory_gb", 1, "GB"))
                  if summary.get(key) is not None]
        trained = ", ".join(budget) + (f" on {summary['device']}" if summary.get("device") else "")
        if summary.get("init_from"):
            trained += f", starting from {summary['init_from']}"
        source = "" if row.commit is None else row.commit[:10] + (" (with local changes)" if row.dirty else "")
        hardware = f"{row.hardware['cpu']}, {row.hardware['cores']} cores" + (f", {row.hardware['gpu']}" if row.hardware["gpu"] else "")
        parameters = f"{summary['parameters']:,}" if summary.get("parameters") is not None else ""
        cells.append([row.experiment, row.config_hash, parameters, trained, str(summary.get("seed", "")), row.checkpoint,
                      source, row.date, hardware])
        commands += [f"    {command}" for command in (summary.get("command"), row.command) if command]
    return [*_markdown(columns, cells), "", "Commands:", "", *dict.fromkeys(commands)]


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
            for row in (columns, ["---"] * len(columns), *rows)]
