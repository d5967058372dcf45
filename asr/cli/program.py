"""What all commands share: the arguments that name an experiment, and how errors end a program."""
from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable

AddArguments = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], Any]


def config_arguments(parser: argparse.ArgumentParser) -> None:
    """``--config``, ``--set``, ``--data-dir``, ``--exp-dir``: enough for :func:`open_experiment`."""
    parser.add_argument("--config", type=Path, help="the experiment's YAML file; default: config.yaml in --exp-dir")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
                        help="override one key of the config, e.g. --set train.epochs=3; may be repeated")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="manifests, features and language (default: data)")
    parser.add_argument("--exp-dir", type=Path, help="the experiment's directory (default: exp/<name of the config>)")


def open_experiment(args: argparse.Namespace) -> tuple[Any, Any]:
    """(ExperimentConfig, Layout) from the arguments of :func:`config_arguments`."""
    from asr.config import load_config
    from asr.experiment import ExperimentConfig, Layout, load_experiment

    if args.config is not None:
        config = load_config(ExperimentConfig, args.config, args.overrides)
    elif args.exp_dir is not None:
        config = load_experiment(args.exp_dir, args.overrides)
    else:
        raise ValueError("name an experiment: --config FILE to define one, or --exp-dir DIR for one that was trained")
    return config, Layout(config, args.data_dir, args.exp_dir or Path("exp") / config.name)


def job_argument(parser: argparse.ArgumentParser) -> None:
    """``--job``, beside a program's own ``--jobs``: one of an array of jobs (utils/run.pl)."""
    parser.add_argument("--job", type=int, metavar="J", help="do only the share of job J of --jobs, from 1; a last call without joins them")


def check_job(args: argparse.Namespace) -> None:
    if args.jobs < 1 or (args.job is not None and not 1 <= args.job <= args.jobs):
        raise ValueError(f"--job {args.job} --jobs {args.jobs}: jobs count from 1 to --jobs")


def program(add_arguments: AddArguments, run: Run, doc: str | None, argv: list[str] | None = None) -> int:
    """The main function of every program: parses, runs, and turns a ValueError into one line and exit status 2."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    return guarded(run, args)


def guarded(run: Run, args: argparse.Namespace) -> int:
    try:
        return int(run(args) or 0)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output, 'head' for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}; what was finished is kept, run the same command again",
              file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, run the same command to go on", file=sys.stderr)
        return 128 + signal.SIGINT
