"""Time and peak memory of the transducers' losses, forward and backward, predictor and joiner included.

    asr bench losses [--sizes 8,100,20,500 ...] [--losses tdt pruned_tdt ...] [--engine auto] [--device cpu] [--threads 1]

A size is utterances, encoder frames, tokens per utterance, vocabulary. Beside our losses run, where they can: the pruned loss with
k2's engine, torchaudio's RNN-T, and TDT as one would write it at first, a log-softmax over all logits and autograd through a
loop over anti-diagonals. Each time is the best of several runs; memory is what the process (or the GPU) holds at most, beyond
what it held before. Losses over the whole lattice are left out where there are more logits than --most-logits.
"""
from __future__ import annotations

import argparse
import ctypes
import gc
from pathlib import Path
from typing import Any, Callable, get_args

import torch
from torch import Tensor, nn

from asr import fsa
from asr.bench.timing import best_time, resident
from asr.losses import build_losses
from asr.losses.arcs import next_tokens
from asr.losses.engines import Engine
from asr.losses.pruned_rnnt import PrunedRnnt
from asr.losses.pruned_tdt import PrunedTdt
from asr.losses.rnnt import Rnnt
from asr.losses.tdt import Tdt
from asr.models.transducer import Transducer
from asr.types import BLANK, EncoderOut, Targets

DURATIONS = (0, 1, 2, 3, 4)
SIZES = ["8,100,20,500", "8,250,40,500", "8,100,20,5000", "30,500,80,500", "30,500,80,5000"]
Run = Callable[[EncoderOut, Targets], Tensor]


def all_logits(model: Transducer, encoder_out: EncoderOut, targets: Targets) -> Tensor:
    encoder = model.joiner.project_encoder(encoder_out.frames_BSD).unsqueeze(2)
    return model.joiner(encoder, model.joiner.project_predictor(model.predictor(targets.tokens_BU)).unsqueeze(1))


def plain_tdt(model: Transducer, encoder_out: EncoderOut, targets: Targets) -> Tensor:
    """The sum (B,) over all alignments, anti-diagonal by anti-diagonal, for utterances of one length."""
    token_logits, duration_logits = model.joiner.split(all_logits(model, encoder_out, targets))
    tokens, durations = token_logits.log_softmax(-1), duration_logits.log_softmax(-1)
    batch, frames, rows, _ = tokens.shape
    label_BSW = tokens.gather(-1, next_tokens(targets)[:, None, :, None].expand(-1, frames, -1, -1)).squeeze(-1)
    row_W = torch.arange(rows, device=tokens.device)
    nothing_BW = tokens.new_full((batch, rows), float("-inf"))
    diagonals = [torch.cat([tokens.new_zeros(batch, 1), nothing_BW[:, 1:]], dim=1)]
    blank_end_B: list[Tensor] = []
    for k in range(1, frames + rows):
        arriving = [nothing_BW]
        for index, d in enumerate(DURATIONS):
            for arc_BSW, advance, rise in ((tokens[..., BLANK], d, 0), (label_BSW, d + 1, 1)):
                if (rise == 0 and d == 0) or advance > k:
                    continue
                frame_W = k - advance - row_W
                real_W = (frame_W >= 0) & (frame_W < frames)
                if rise == 1:
                    real_W &= frame_W + d < frames
                frame_W = frame_W.clamp(0, frames - 1)
                score_BW = diagonals[k - advance] + arc_BSW[:, frame_W, row_W] + durations[:, frame_W, row_W, index]
                score_BW = score_BW.masked_fill(~real_W, float("-inf"))
                arriving.append(score_BW if rise == 0 else torch.cat([nothing_BW[:, :1], score_BW[:, :-1]], dim=1))
        # A large negative number stands for -inf, through whose logsumexp no gradient passes.
        diagonals.append(torch.stack(arriving).clamp(min=-1e20).logsumexp(0))
        if k == frames + rows - 1:
            blank_end_B.append(diagonals[-1][:, -1])
    return -blank_end_B[0]


def torchaudio_rnnt(model: Transducer, encoder_out: EncoderOut, targets: Targets) -> Tensor:
    import torchaudio

    return torchaudio.functional.rnnt_loss(
        all_logits(model, encoder_out, targets), targets.tokens_BU.int(), encoder_out.lens_B.int(), targets.lens_B.int(),
        blank=BLANK, reduction="none", clamp=0,
    )


def candidates(rnnt: Transducer, tdt: Transducer, engine: Engine, step: int = 10_000) -> dict[str, tuple[Run, bool]]:
    """By name: the loss as a function of encoder output and targets, and whether it has a joiner over the whole lattice."""
    def ours(config: Any, model: Transducer) -> Run:
        loss: nn.Module = build_losses({"loss": config}, model).to(next(model.parameters()).device)
        return lambda encoder_out, targets: loss(encoder_out, targets, model, step).total_B

    found: dict[str, tuple[Run, bool]] = {
        "pruned_rnnt": (ours(PrunedRnnt.Config(engine=engine), rnnt), False),
        "pruned_tdt": (ours(PrunedTdt.Config(engine=engine, sigma=0.0), tdt), False),
        "rnnt": (ours(Rnnt.Config(engine=engine), rnnt), True),
        "tdt": (ours(Tdt.Config(engine=engine, sigma=0.0), tdt), True),
        "plain_tdt": (lambda encoder_out, targets: plain_tdt(tdt, encoder_out, targets), True),
    }
    if fsa.available():
        found["pruned_rnnt_k2"] = (ours(PrunedRnnt.Config(engine="k2"), rnnt), False)
    try:
        import torchaudio  # noqa: F401

        found["torchaudio_rnnt"] = (lambda encoder_out, targets: torchaudio_rnnt(rnnt, encoder_out, targets), True)
    except (ImportError, OSError):
        pass
    return found


def build(vocab: int, durations: tuple[int, ...], device: str) -> Transducer:
    config = {
        "encoder": {"type": "conformer", "dim": 256, "layers": 1}, "predictor": {"type": "stateless", "dim": 256},
        "joiner": {"dim": 256, "durations": durations},
    }
    torch.manual_seed(0)
    return Transducer(Transducer.Config.model_validate(config), feature_dim=80, vocab_size=vocab).to(device)


def peak_memory(run: Callable[[], object], device: str) -> int:
    """Bytes that a run takes beyond what there is before it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def measure(name: str, loss: Run, batch: tuple[int, ...], args: argparse.Namespace) -> None:
    utterances, frames, tokens, vocab = batch
    torch.manual_seed(1)
    frames_BSD = torch.randn(utterances, frames, 256, device=args.device, requires_grad=True)
    encoder_out = EncoderOut(frames_BSD, torch.full((utterances,), frames, device=args.device))
    targets = Targets(torch.randint(1, vocab, (utterances, tokens)), torch.full((utterances,), tokens)).to(args.device)

    def step() -> None:
        frames_BSD.grad = None
        loss(encoder_out, targets).sum().backward()

    step()
    memory = peak_memory(step, args.device)
    elapsed = best_time(step, args.seconds, args.device)
    with torch.no_grad():
        value = loss(encoder_out, targets).mean().item()
    print(f"  {name:16} {1e3 * elapsed:9.1f} ms {memory / 2**20:9.1f} MiB   loss {value:.3f}", flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="utterances,frames,tokens,vocabulary")
    parser.add_argument("--losses", nargs="+", help="by name; all of them by default")
    parser.add_argument("--engine", default="auto", choices=get_args(Engine), help="what sums over the alignments in our losses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--most-logits", type=float, default=5e8)


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), engine {args.engine}, durations {list(DURATIONS)}")
    for size in args.sizes:
        utterances, frames, tokens, vocab = batch = tuple(int(part) for part in size.split(","))
        print(f"{utterances} utterances of {frames} frames and {tokens} tokens, vocabulary of {vocab}")
        models = build(vocab, (), args.device), build(vocab, DURATIONS, args.device)
        for name, (loss, whole) in candidates(*models, args.engine).items():
            if args.losses and name not in args.losses:
                continue
            if whole and utterances * frames * (tokens + 1) * vocab > args.most_logits:
                print(f"  {name:16} left out")
                continue
            measure(name, loss, batch, args)
