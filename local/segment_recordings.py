"""Cuts long recordings into utterances by aligning their transcripts with the CTC head of a trained model.

    python local/segment_recordings.py --exp-dir exp/conformer --input data_long/manifests/train.jsonl.gz --output segments/train.jsonl.gz

The input is a manifest of recordings, each with all of its transcript: stage 1 makes it, with corpus.max_duration raised. The output is
one of utterances; 'confidence', kept with each, can be asked for by a split (where: {confidence: {min: 0.8}}). What is below
--min-confidence, has a word that the model cannot spell, or is not within the lengths, is left out and listed in <output>.dropped.jsonl.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Iterator

from tqdm import tqdm

from asr.cli.program import config_arguments, open_experiment, program
from asr.cli.recogniser import load_recogniser, recogniser_arguments
from asr.data import Dropped, iterate_cuts, part_of, speech_features, write_selection
from asr.decode.ctc_greedy import need_ctc_head
from asr.decode.segmentation import SegmentRules, recording_log_probs, segments
from asr.features.vad import VadRules

RULES = SegmentRules()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--input", type=Path, required=True, help="manifest of recordings with their transcripts")
    parser.add_argument("--output", type=Path, required=True, help="manifest of utterances, *.jsonl.gz")
    parser.add_argument("--min-confidence", type=float, default=0.6, help="of the worst 1.2 s of an utterance (default: 0.6)")
    parser.add_argument("--min-duration", type=float, default=0.3, help="seconds (default: 0.3)")
    parser.add_argument("--max-duration", type=float, default=RULES.max_duration,
                        help=f"seconds; what is longer is cut at its longest pause (default: {RULES.max_duration:g})")
    parser.add_argument("--max-pause", type=float, default=RULES.max_pause,
                        help=f"seconds; longer ones are always cut out (default: {RULES.max_pause:g})")
    parser.add_argument("--padding", type=float, default=RULES.padding, help=f"seconds around an utterance (default: {RULES.padding:g})")
    recogniser_arguments(parser)


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    recogniser = load_recogniser(config, layout, args.device, args.partial)
    need_ctc_head(recogniser.model)
    rules = SegmentRules(args.max_pause, args.max_duration, args.padding)
    kept: list[Any] = []
    dropped: list[Dropped] = []
    for recording in tqdm(iterate_cuts(args.input), desc="recordings", disable=None):
        for part, reason in parts(recording, config.features, recogniser, rules, args):
            if reason:
                dropped.append(Dropped(part.id, args.input.name, reason))
            else:
                kept.append(part)
    write_selection(args.output, kept, dropped)


def parts(
    recording: Any, features: Any, recogniser: Any, rules: SegmentRules, args: argparse.Namespace
) -> Iterator[tuple[Any, str]]:
    """The utterances of a recording, each with the reason to leave it out, empty where it is to be kept."""
    tokenizer, words = recogniser.tokenizer, (recording.supervisions[0].text or "").split()
    if not words:
        yield recording, "empty transcript"
        return
    spoken = speech_features(recording, features, VadRules())
    log_probs_SV = recording_log_probs(recogniser.model, spoken, recording.duration, recogniser.seconds_per_frame)
    found = segments(log_probs_SV, [tokenizer.encode(word) for word in words], recogniser.seconds_per_frame, rules)
    if not found:
        yield recording, "the transcript is too long for the recording"
    for segment in found:
        text = " ".join(words[segment.first: segment.end])
        part = part_of(recording, segment.start, segment.stop, text, confidence=segment.confidence)
        unknown = tokenizer.unknown(text)
        if unknown:
            yield part, f"unknown characters: {' '.join(unknown)} in '{text}'"
        elif not args.min_duration <= part.duration <= args.max_duration + 2 * rules.padding:
            yield part, f"unusual length: {part.duration:.2f} s: '{text}'"
        elif segment.confidence < args.min_confidence:
            yield part, f"low confidence: {segment.confidence:.3f}: '{text}'"
        else:
            yield part, ""


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
