"""Fetches a corpus from its publisher, unless it is already there. Without an address, it only makes sure that the corpus is there.

    python local/download_corpus.py --lhotse yesno --to download/yesno
    python local/download_corpus.py --url https://www.openslr.org/resources/101/speechocean762.tar.gz --to download/speechocean762
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from asr.cli.program import program
from asr.data.download import download_archive, download_corpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--lhotse", metavar="NAME", help="the corpus's name in lhotse.recipes")
    source.add_argument("--url", help="address of a tar or zip archive, or of a single file")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of lhotse's download, its value as YAML")
    parser.add_argument("--to", type=Path, required=True, help="the corpus's directory; left alone if it exists")


def run(args: argparse.Namespace) -> None:
    if args.url:
        download_archive(args.url, args.to)
    elif args.lhotse:
        download_corpus(args.lhotse, args.to, **{name: yaml.safe_load(value) for name, _, value in (o.partition("=") for o in args.option)})
    elif not args.to.is_dir():
        raise ValueError(f"{args.to}: the corpus is not here, and this recipe knows no address for it; correct --corpus-dir")
    print(f"the corpus is in {args.to}")


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
