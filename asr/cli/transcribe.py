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

from asr.cli.program import config_arguments, open_experiment
from asr.cli.recogniser import load_recogniser, recogniser_arguments
from asr.data.audio import read_audio
from asr.data.recordings import audio_batches, duration, feature_pieces
from asr.decode import build_search, to_text, to_tokens, to_words
from asr.decode.driver import Recogniser, basis_of, find_tuned
from asr.decode.streaming import recognise
from asr.decode.words import Clock
from asr.features import Units, open_features
from asr.score import calibration
from asr.types import Hypothesis


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
            line = json.dumps({"file": path, "text": text, "words": [asdict(w) for w in words],
                               "tokens": [asdict(t) for t in tokens]}, ensure_ascii=False)
            print(line if args.json else f"{path}\t{text}" if len(args.audio) > 1 else text, flush=True)


def _recognised(
    args: argparse.Namespace, config: Any, recogniser: Recogniser, search: Any, extractor: Any
) -> Iterator[tuple[str, Hypothesis, Clock | float]]:
    """The files in the order given; those of more than ``decode.max_duration`` seconds each by itself, piece by piece unless they are
    made of units, and the seconds of their encoder frames."""
    limit = config.decode.max_duration
    for in_pieces, group in groupby(args.audio, key=lambda path: not isinstance(extractor, Units) and duration(path) > limit):
        for path in group if in_pieces else ():
            pieces = feature_pieces(path, config.features, extractor)
            found = recognise(recogniser, search, pieces, config.features.padding_value, limit)
            yield str(path), found, recogniser.seconds_per_frame
        audio = ((str(path), read_audio(path, config.features.sample_rate)) for path in group)
        for batch in () if in_pieces else audio_batches(audio, extractor, limit):
            batch = batch.to(args.device)
            results = search.decode(recogniser.model.encode(batch.features_BTF, batch.feature_lens_B))
            clocks = [recogniser.clock(starts) for starts in batch.unit_starts or len(batch) * (None,)]
            yield from ((id, hypotheses[0], clock) for id, hypotheses, clock in zip(batch.ids, results, clocks))
