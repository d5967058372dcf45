"""Time and memory of a training step of the encoder with activation checkpointing and without.

    asr bench checkpointing [--encoder '{type: zipformer, size: small}'] [--threads 1] [--seconds 5]

Prints, for each, the shortest forward and backward pass over 16 utterances of 5 to 10 s, and the peak memory of the process
beyond what it had before its first step. Each runs in a process of its own.
"""
from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import Any

import torch
import yaml

from asr.config import validate
from asr.models.transducer import Transducer


def measure(encoder: dict[str, Any], checkpointing: bool, threads: int, seconds: float) -> tuple[float, float]:
    """(seconds, GiB) of a step."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Transducer(validate(Transducer.Config, {"encoder": encoder, "predictor": {"type": "stateless"}}, "--encoder"), 80, 500)
    model.train().on_step(10_000)
    if checkpointing:
        model.checkpoint_activations()
    lens_B = torch.linspace(500, 1000, 16).long()
    features_BTF = torch.randn(16, 1000, 80)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        model.zero_grad()
        model.encode(features_BTF, lens_B).frames_BSD.square().mean().backward()
        best, spent = min(best, time.perf_counter() - start), spent + time.perf_counter() - start
    return best, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", default="{type: zipformer, size: small}", help="the config's model.encoder, in YAML")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="time spent on each measurement")


def run(args: argparse.Namespace) -> None:
    for checkpointing in (False, True):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            step, memory = pool.apply(measure, (yaml.safe_load(args.encoder), checkpointing, args.threads, args.seconds))
        print(f"{'with' if checkpointing else 'without'} activation checkpointing: {step:.2f} s, {memory:.2f} GiB")
