"""Finds speech in recordings without transcripts, by its energy, and writes a manifest of the parts, whose text is empty.

    python local/vad.py --audio radio/ interview.flac --output data/manifests/radio.jsonl.gz
    asr decode --exp-dir exp/conformer --splits radio --untuned --set features.stored=false       # recognise them

Of audio with several channels, the first is taken. The rules are those of asr/features/vad.py.
"""
from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from asr.cli.program import program
from asr.data import Dropped, spoken_parts, summary, write_cuts
from asr.data.sources.base import read_headers
from asr.features.vad import VadRules

AUDIO = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".sph"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--audio", type=Path, nargs="+", required=True, help="audio files, and directories of them")
    parser.add_argument("--output", type=Path, required=True, help="the manifest, *.jsonl.gz")
    parser.add_argument("--sample-rate", type=int, default=16000, help="to which other rates are converted when read (default: 16000)")
    for name, default in VadRules()._asdict().items():
        unit = {"contrast": "dB", "level": "a part of the way from quiet to loud"}.get(name, "seconds")
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help=f"{unit} (default: {default:g})")


def run(args: argparse.Namespace) -> None:
    rules = VadRules(**{name: getattr(args, name) for name in VadRules._fields})
    files = [file for path in args.audio for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    named = {str(file.with_suffix("")).strip("/").replace("/", "-"): file for file in files if file.suffix.lower() in AUDIO}
    if not named:
        raise ValueError(f"--audio: no audio files ({', '.join(sorted(AUDIO))}) in {', '.join(map(str, args.audio))}")
    headers = read_headers({id: file.resolve() for id, file in named.items()})
    if headers.errors:
        unreadable = [Dropped(id, "", reason) for id, reason in headers.errors.items()]
        logging.warning("%d of %d files are left out:\n%s", len(unreadable), len(named), summary(unreadable))
    found = [part for recording in headers.recordings.values() for part in spoken_parts(recording, args.sample_rate, rules)]
    if not found:
        raise ValueError("no speech found: lower --contrast or --level")
    write_cuts(args.output, found)
    total, spoken = (sum(item.duration for item in items) for items in (headers.recordings.values(), found))
    print(f"{args.output}: {len(found)} parts, {spoken / 3600:.2f} of {total / 3600:.2f} hours")


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
