"""What an experiment is and how its training went: config, parameters by module, last numbers, and the loss curve as a picture.

    asr info exp/conformer          # also writes exp/conformer/loss.png
"""
from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any, Sequence

import yaml

from asr.config import Config
from asr.experiment import ExperimentConfig, Layout, build_model, experiment_tokenizer, load_experiment
from asr.files import atomic_path
from asr.train.progress import read_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("exp_dir", type=Path, help="the experiment's directory, such as exp/conformer")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="for the tokenizer of an experiment not trained yet")


def run(args: argparse.Namespace) -> None:
    config = load_experiment(args.exp_dir)
    print(f"{args.exp_dir}: {config.name}\n")
    print(yaml.safe_dump({name: _brief(getattr(config, name)) for name in ("model", "losses", "train")}, sort_keys=False))
    _print_parameters(config, Layout(config, args.data_dir, args.exp_dir))
    rows = read_rows(args.exp_dir / "train.jsonl")
    _print_numbers(args.exp_dir, rows)
    if rows:
        picture = args.exp_dir / "loss.png"
        plot_losses(rows, picture, title=config.name)
        print(f"\nloss curve: {picture}")


def _brief(value: Any) -> Any:
    """A config without what is left at its default, except which kind of thing it is."""
    if isinstance(value, Config):
        changed = {name for name, field in type(value).model_fields.items() if getattr(value, name) != field.default} | {"type"}
        return {name: _brief(getattr(value, name)) for name in type(value).model_fields if name in changed}
    if isinstance(value, dict):
        return {name: _brief(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _print_parameters(config: ExperimentConfig, layout: Layout) -> None:
    model = build_model(config, experiment_tokenizer(layout))
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[name.split(".")[0]] += parameter.numel()
    for name, count in counts.items():
        print(f"{name:12}{count:14,}")
    print(f"{'parameters':12}{sum(counts.values()):14,}\n")


def _print_numbers(exp_dir: Path, rows: Sequence[dict[str, Any]]) -> None:
    validations = [row for row in rows if row["kind"] == "validation"]
    training = [row for row in rows if row["kind"] == "train"]
    if not training:
        print("no training steps logged yet")
        return
    last = training[-1]
    print(f"step {last['step']}, epoch {last['epoch']}, {last['seconds'] / 60:.1f} min: training loss {last['loss']:.4f}, "
          f"{last['speed']:.0f} x real time, padding {last['padding']:.0%}, waiting for data {last['data_wait']:.0%}")
    if validations:
        best = min(validations, key=lambda row: row["loss"])
        print(f"validation loss {validations[-1]['loss']:.4f}, the best {best['loss']:.4f} after epoch {best['epoch']}")
    skipped, masked = (sum(row[key] for row in training) for key in ("skipped_steps", "masked_utterances"))
    rollbacks = sum(row["kind"] == "rollback" for row in rows)
    if skipped or masked or rollbacks:
        print(f"{skipped} steps skipped, {masked} losses masked, {rollbacks} times rolled back: see {exp_dir / 'problems.jsonl'}")
    summary = exp_dir / "train_summary.json"
    if summary.exists():
        done = json.loads(summary.read_text())
        print("finished: {epochs} epochs, {audio_hours:.2f} h of audio in {seconds:.0f} s on {device}".format(**done))
    else:
        print("not finished: the same 'asr train' command goes on from the last checkpoint")


def plot_losses(rows: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Writes training and validation loss per encoder frame over steps as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for kind, style in (("train", "-"), ("validation", "o-")):
        points = [(row["step"], row["loss"]) for row in rows if row["kind"] == kind]
        if points:
            axes.plot(*zip(*points), style, label=kind, markersize=3)
    axes.set(xlabel="step", ylabel="loss per encoder frame", yscale="log", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
