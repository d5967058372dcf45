"""Recognise audio files: whatever soundfile reads, at any sample rate; channels are averaged.

    asr transcribe --exp-dir exp/x a.wav b.flac
    asr transcribe --exp-dir exp/x --search beam --json a.wav      # one JSON object a line, with times of words and tokens

The search is one of the config's, with the scales that 'asr decode --tune' chose for it. Recordings of more than decode.max_duration
seconds are streamed where the encoder can, and else cut at pauses: in either case, memory is bounded.
"""
from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Iterator

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.cli.program import config_arguments, open_experiment
from asr.cli.recogniser import load_recogniser, recogniser_arguments
from asr.data.audio import read_audio
from asr.data.recordings import duration, feature_pieces
from asr.decode import build_search, to_text, to_tokens, to_words
from asr.decode.driver import Recogniser, basis_of, find_tuned
from asr.decode.streaming import recognise
from asr.decode.words import Clock
from asr.features import Units, open_features
from asr.score import calibration
from asr.types import Hypothesis

PIECE = 10.0  # seconds of a long recording that are read at a time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", type=Path, help="audio files")
    config_arguments(parser)
    parser.add_argument("--search", help="one of the config's searches (default: its first)")
    parser.add_argument("--untuned", action="store_true", help="use the config's own scales where the search has some to tune")
    parser.add_argument("--json", action="store_true", help="print words and tokens with times and confidence, as JSON lines")
    recogniser_arguments(parser)


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    searches = config.decode.searches
    name = args.search or next(iter(searches))
    if name not in searches:
        raise ValueError(f"--search: '{name}' is not one of the config's: {', '.join(searches)}")
    recogniser, search_config = load_recogniser(config, layout, args.device, args.partial), searches[name]
    if search_config.tune and not args.untuned:
        search_config = search_config.with_values(find_tuned(name, basis_of(recogniser, search_config), layout.tuned).values)
    fitted = calibration.find(layout.calibration, name, calibration.system_of(recogniser.checkpoint, search_config.model_dump(mode="json")))
    search = build_search(search_config, recogniser.model, recogniser.tokenizer, recogniser.lang)
    extractor = open_features(config.features, layout.own_extractor(config.features), args.device)
    with torch.no_grad():
        for path, found, clock in _recognised(args, config, recogniser, search, extractor):
            words, tokens = (convert(found, recogniser.tokenizer, clock) for convert in (to_words, to_tokens))
            words, text = calibration.calibrated(words, fitted), to_text(found, recogniser.tokenizer)
            line = json.dumps({"file": str(path), "text": text, "words": [asdict(w) for w in words],
                               "tokens": [asdict(t) for t in tokens]}, ensure_ascii=False)
            print(line if args.json else f"{path}\t{text}" if len(args.audio) > 1 else text, flush=True)


def _recognised(
    args: argparse.Namespace, config: Any, recogniser: Recogniser, search: Any, extractor: Any
) -> Iterator[tuple[Path, Hypothesis, Clock | float]]:
    """The files in the order given; those of more than ``decode.max_duration`` seconds each by itself, piece by piece unless they are
    made of units, and the seconds of their encoder frames."""
    limit = config.decode.max_duration
    for in_pieces, group in groupby(args.audio, key=lambda path: not isinstance(extractor, Units) and duration(path) > limit):
        for path in group if in_pieces else ():
            pieces = feature_pieces(path, config.features, extractor, PIECE)
            found = recognise(recogniser, search, pieces, config.features.padding_value, limit)
            yield path, found, recogniser.seconds_per_frame
        for some, samples in () if in_pieces else _groups(list(group), config.features.sample_rate, limit):
            features_BTF, lens_B, clocks = _features(extractor, recogniser, some, samples, args.device)
            results = search.decode(recogniser.model.encode(features_BTF, lens_B))
            yield from ((path, hypotheses[0], clock) for path, hypotheses, clock in zip(some, results, clocks))


def _groups(paths: list[Path], sample_rate: int, max_duration: float) -> Iterator[tuple[list[Path], list[Tensor]]]:
    """Files in the order given, read and grouped so that a group padded to its longest has at most ``max_duration`` seconds."""
    group: tuple[list[Path], list[Tensor]] = ([], [])
    for path in paths:
        samples = read_audio(path, sample_rate)
        longest = max([len(samples), *(len(other) for other in group[1])])
        if group[0] and longest * (len(group[0]) + 1) > max_duration * sample_rate:
            yield group
            group = ([], [])
        group[0].append(path)
        group[1].append(samples)
    yield group


def _features(
    extractor: Any, recogniser: Recogniser, paths: list[Path], samples: list[Tensor], device: str
) -> tuple[Tensor, Tensor, list[Clock | float]]:
    """Features (B, T, F) and their lengths (B,) on ``device``, and the seconds of each one's encoder frames."""
    features: list[Tensor] = []
    clocks: list[Clock | float] = []
    for path, waveform in zip(paths, samples):
        try:
            matrix = extractor(waveform)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if isinstance(extractor, Units):
            view = extractor.view(matrix)
            features.append(view.units_TQ)
            clocks.append(recogniser.clock(view.starts_T))
        else:
            features.append(matrix)
            clocks.append(recogniser.seconds_per_frame)
    lens_B = torch.tensor([len(f) for f in features])
    return pad_sequence(features, batch_first=True, padding_value=extractor.config.padding_value).to(device), lens_B.to(device), clocks
