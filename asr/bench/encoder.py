"""Speed of the Zipformer encoder, as a share of the matrix product's rate on this machine.

    asr bench encoder [--size tiny] [--threads 1] [--seconds 2]

Prints, for training (forward and backward, 16 utterances of 2 to 4 s) and inference (batches of 1, 16 and 50), the
real-time factor, the arithmetic rate and its share of torch.mm's on 1024 x 1024 matrices, measured in the same run.
Each number is the best of several runs: the machine may be busy with other things.
"""
from __future__ import annotations

import argparse
import resource
from functools import partial
from typing import Callable

import torch
from torch import Tensor

from asr.bench.timing import best_time
from asr.models.zipformer import Zipformer
from asr.models.zipformer.frontend import frames_out


def multiplications(encoder: Zipformer, lens: Tensor) -> float:
    """Multiply-adds of a forward pass over utterances of so many feature frames, without padding."""
    config, front = encoder.config, encoder.frontend
    bands1 = encoder.feature_dim
    bands2 = (bands1 - 1) // 2
    frames = frames_out(lens).double()
    pixels = {
        "conv1": (2 * frames + 5) * bands1, "conv2": (frames + 2) * bands2, "conv3": frames * front.bands,
        "convnext.depthwise": frames * front.bands, "convnext.in_proj": frames * front.bands,
        "convnext.out_proj": frames * front.bands, "out_proj": frames,
    }
    total = sum(float(front.get_parameter(f"{name}.weight").numel() * count.sum()) for name, count in pixels.items())
    for stack, heads in zip(encoder.stacks, config.heads):
        rate = (frames / stack.factor).ceil()
        weights = sum(p.numel() for name, p in stack.layers.named_parameters() if p.dim() > 1 and "pos_proj" not in name)
        hidden = heads * (config.query_head_dim + config.pos_head_dim + 2 * config.value_head_dim) + 3 * stack.dim // 4
        total += float(weights * rate.sum() + len(stack.layers) * hidden * (rate**2).sum())
    return total


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="tiny", help="named size of the encoder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    matrix = torch.randn(1024, 1024)
    sgemm = 2 * 1024**3 / best_time(lambda: matrix @ matrix, args.seconds) / 1e9
    print(f"torch {torch.__version__}, {args.threads} thread(s), sgemm {sgemm:.0f} GFLOP/s")
    encoder = Zipformer(Zipformer.Config(size=args.size), 80)

    def report(what: str, lens: Tensor, passes: int, step: Callable[[], object]) -> None:
        elapsed = best_time(step, args.seconds)
        rate = 2 * passes * multiplications(encoder, lens) / elapsed / 1e9
        audio = lens.sum().item() / 100
        print(
            f"{what}: {1e3 * elapsed:.1f} ms, real-time factor {elapsed / audio:.4f} ({audio / elapsed:.0f} x real time), "
            f"{rate:.1f} GFLOP/s, {rate / sgemm:.0%} of sgemm"
        )

    encoder.eval()
    for batch in (1, 16, 50):
        lens = torch.randint(200, 400, (batch,))
        features = torch.randn(batch, int(lens.max()), 80)
        with torch.no_grad():
            report(f"inference, batch of {batch}", lens, 1, partial(encoder, features, lens))

    encoder.train()
    encoder.set_step(10_000)
    lens = torch.linspace(200, 400, 16).long()
    features = torch.randn(16, 400, 80)

    def train() -> None:
        encoder.zero_grad()
        encoder(features, lens).frames_BSD.square().mean().backward()

    report("training, batch of 16", lens, 3, train)
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
