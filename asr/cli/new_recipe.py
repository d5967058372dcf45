"""Make a recipe of a corpus: looks at the data, says what it found and why it chooses what, and writes egs/NAME/.

    asr new-recipe swahili ~/Swahili-Speech                            # audio files, and a file with lines of id:text
    asr new-recipe breton ~/cv-corpus/br                               # Common Voice: train.tsv, dev.tsv, test.tsv and clips/
    asr new-recipe mine ~/mine/list.csv --columns text=sentence_clean  # a table with columns of its own
    asr new-recipe aishell ~/aishell --lhotse aishell                  # what lhotse can read

A corpus is a directory with Kaldi data directories, with a table (CSV, TSV, JSON lines) of audio and text, or with audio files whose
transcripts lie beside them (.txt, .lab) or in lines that begin with the names of the audio files; or the path of such a table.
Nothing that exists is overwritten. docs/add-a-language.md goes through an example.
"""
from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import asr
from asr.data.download import can_download
from asr.recipe import Hints, Proposal, check_new, look_at, model_to_start_from, write_recipe

EGS = Path(asr.__file__).resolve().parents[1] / "egs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the recipe: egs/NAME")
    parser.add_argument("corpus", type=Path, help="where the corpus lies: a directory, or a table in it")
    parser.add_argument("--lhotse", metavar="RECIPE", help="read it with this recipe of lhotse")
    parser.add_argument("--columns", nargs="+", default=[], metavar="OURS=THEIRS",
                        help="columns of the table: audio=..., text=..., id=..., speaker=..., split=...")
    parser.add_argument("--path", metavar="REGEX", help="fields in the paths of audio files, e.g. '(?P<speaker>[^/]+)/[^/]+$'; '' for none")
    parser.add_argument("--encoding", default="utf-8", help="of the transcripts (default: utf-8)")
    parser.add_argument("--url", help="of an archive of the corpus, for stage 0 of the recipe")
    parser.add_argument("--egs-dir", type=Path, default=EGS, help="where the recipes are (default: those of this checkout)")


def run(args: argparse.Namespace) -> None:
    check_new(args.egs_dir, args.name)
    hints = Hints(args.lhotse, columns(args.columns), args.path, args.encoding)
    proposal = look_at(args.corpus, hints, model_to_start_from(args.egs_dir))
    fetch = ["--url", args.url] if args.url else ["--lhotse", args.lhotse] if args.lhotse and can_download(args.lhotse) else []
    directory = write_recipe(proposal, args.egs_dir, args.name, fetch=fetch)
    option = f" --corpus-dir {shlex.quote(str(proposal.layout.corpus_dir))}" if fetch else ""
    print(f"{report(proposal)}\n\nwrote {directory}: read conf/base.yaml, then\n\n    {shlex.quote(str(directory / 'run.sh'))}{option}")


def columns(pairs: list[str]) -> dict[str, str]:
    """``["text=sentence"]`` as a mapping."""
    for pair in pairs:
        if "=" not in pair.strip("="):
            raise ValueError(f"--columns {pair}: expected OURS=THEIRS, for example text=sentence")
    return dict(pair.split("=", 1) for pair in pairs)


def report(proposal: Proposal) -> str:
    lines = ["the corpus:", *(f"  {fact}" for fact in proposal.facts), "", "what to know about it:"]
    lines += [f"  {finding}" for finding in proposal.findings] or ["  nothing was found to be wrong"]
    lines += ["", "what the recipe does, and why:"]
    lines += [f"  {choice.key}: {choice.value}" + (f"\n      {choice.why}" if choice.why else "") for choice in proposal.chosen.choices]
    lines += ["", "the splits, after all checks but the decoding of the audio:"]
    for split, items in proposal.chosen.splits.items():
        lines.append(f"  {split}: {len(items)} utterances, {sum(item.duration for item in items) / 3600:.2f} hours")
    return "\n".join(lines)
