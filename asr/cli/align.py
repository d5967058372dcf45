"""Find out when each word and token of given transcripts is spoken, by forced alignment with a trained model.

    asr align --exp-dir exp/x --splits test                        # the transcripts of the set
    asr align --exp-dir exp/x --splits test --text corrected.txt   # others: lines of an utterance's id and its words
    asr align --exp-dir exp/x --splits test --search beam          # what this search has found; its words get these times

Writes words.ctm, tokens.ctm, alignment.jsonl and textgrid/ into exp/x/align/<split>/ (<split>.<search>/). See docs/decoding.md.
"""
from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from asr import hypotheses
from asr.cli.forced_alignment import forced_alignments
from asr.cli.program import config_arguments, open_experiment
from asr.cli.recogniser import load_recogniser, recogniser_arguments
from asr.data import evaluation_loader, read_transcripts
from asr.experiment import beside
from asr.score.timed import write_alignments

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--splits", nargs="+", required=True, help="sets to align")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--text", type=Path, help="transcripts to align: lines of an id and words; utterances it does not name are left out")
    what.add_argument("--search", help="align what this search has found, and put the times into its file of hypotheses")
    parser.add_argument("--method", choices=("transducer", "ctc"), default="transducer",
                        help="which part of the model aligns; ctc marks the runs of labels of its CTC head (default: transducer)")
    recogniser_arguments(parser)


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    recogniser = load_recogniser(config, layout, args.device, args.partial)
    for split in args.splits:
        decoded = layout.decode(split) / f"{args.search}.jsonl"
        if args.search:
            texts = {utterance.id: utterance.hyp for utterance in hypotheses.read(decoded).utterances}
        else:
            texts = {item.id: item.text for item in read_transcripts(layout.features(split))} if args.text is None else read_text(args.text)
        loader = evaluation_loader(layout.features(split), config.features, max_duration=config.decode.max_duration,
                                   beside=beside(config, layout, split, targets=False))
        batches = tqdm(loader, desc=f"aligning {split}", unit="batch", disable=None)
        found = {one.id: one for one in forced_alignments(recogniser, args.method, batches, texts)}
        directory = layout.align(f"{split}.{args.search}" if args.search else split)
        write_alignments(directory, [found[id] for id in sorted(found)])
        if args.search:
            header, utterances = hypotheses.read(decoded).header, hypotheses.read(decoded).utterances
            hypotheses.write(decoded, header, [replace(u, words=tuple(found[u.id].words)) if u.id in found else u for u in utterances])
        log.info("%s: %d utterances aligned, in %s", split, len(found), directory)


def read_text(path: Path) -> dict[str, str]:
    """Words by utterance id, from lines of both. Raises ValueError where the file is absent."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file of transcripts")
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {id: " ".join(words) for id, *words in lines}
