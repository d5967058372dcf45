"""Speed of the searches of a transducer without durations (RNN-T) and with them (TDT), on the same made-up speech.

    asr bench search [--vocabulary 500] [--dim 512] [--utterances 50] [--seconds 2] [--device cpu]

Utterances of 5 to 15 s at 40 ms a frame, with a token every 7 frames on average; tokens and blanks of the TDT last until the next
token, as far as its durations go. Encoder output is made so that both models find these tokens, with doubts about some.
For each search: time (the best of several runs), the same over greedy search of this model and over that of the RNN-T, calls of the
joiner, its evaluations per frame (of the TDT's greedy search: the share of frames that it visits; beams make some for confidences,
too), and token errors.
"""
from __future__ import annotations

import argparse
import resource
from typing import Any

import kaldialign
import torch

from asr.bench.timing import best_time
from asr.decode import build_search
from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from asr.models.joiner import Joiner
from asr.models.predictors import StatelessPredictor
from asr.types import BLANK, EncoderOut

DURATIONS = (0, 1, 2, 3, 4)
DOUBT = 0.9
"""How far the encoder's output is from certain: more gives beams more to do."""


class Model(torch.nn.Module):
    """What a search uses of a transducer; its encoder output has as many channels as the joiner."""

    def __init__(self, vocabulary: int, dim: int, durations: tuple[int, ...]) -> None:
        super().__init__()
        self.vocab_size = vocabulary
        self.predictor = StatelessPredictor(StatelessPredictor.Config(dim=dim), vocabulary)
        self.joiner = Joiner(Joiner.Config(dim=dim, durations=durations), dim, dim, vocabulary)
        signs = torch.randn(vocabulary + len(DURATIONS), dim, generator=torch.Generator().manual_seed(1)).sign()
        with torch.no_grad():
            self.joiner.output_linear.weight.copy_(signs[: vocabulary + len(durations)] * (16.0 / dim))
            self.joiner.output_linear.bias.zero_()
            self.joiner.encoder_proj.weight.copy_(torch.eye(dim))
            self.joiner.encoder_proj.bias.zero_()
            self.joiner.predictor_proj.weight *= 0.2


def speech(model: Model, utterances: int) -> tuple[EncoderOut, list[list[int]]]:
    """Encoder output that makes ``model``, which has durations, say the tokens that come with it."""
    generator = torch.Generator().manual_seed(2)
    lens_B = torch.randint(125, 375, (utterances,), generator=generator)
    frames_BSD = torch.zeros(utterances, int(lens_B.max()), model.joiner.output_linear.in_features)
    signs = model.joiner.output_linear.weight.detach().sign()
    texts = []
    for b, length in enumerate(lens_B.tolist()):
        starts = torch.randint(1, 14, (length,), generator=generator).cumsum(0)
        starts = starts[starts < length]
        tokens_S = torch.full((length,), BLANK)
        tokens_S[starts] = torch.randint(1, model.vocab_size, (len(starts),), generator=generator)
        texts.append(tokens_S[starts].tolist())
        ahead_S = torch.searchsorted(starts, torch.arange(length), right=True)
        until_S = torch.cat([starts, torch.tensor([length])])[ahead_S] - torch.arange(length)
        frames_BSD[b, :length] = signs[tokens_S] + signs[model.vocab_size + until_S.clamp(max=max(DURATIONS))]
    frames_BSD += DOUBT * torch.randn(frames_BSD.shape, generator=generator)
    return EncoderOut(frames_BSD, lens_B), texts


def measured(model: Model, encoder_out: EncoderOut, texts: list[list[int]], config: Any, seconds: float) -> tuple[float, int, float, float]:
    """(seconds, calls of the joiner, its evaluations per frame, token error rate)."""
    calls: list[int] = []
    hook = model.joiner.register_forward_hook(lambda module, inputs, logits: calls.append(logits.numel() // logits.shape[-1]))
    found = build_search(config, model, None).decode(encoder_out)
    hook.remove()
    search = build_search(config, model, None)
    errors = sum(kaldialign.edit_distance(text, list(best[0].tokens))["total"] for text, best in zip(texts, found))
    elapsed = best_time(lambda: search.decode(encoder_out), seconds)
    return elapsed, len(calls), sum(calls) / int(encoder_out.lens_B.sum()), errors / sum(map(len, texts))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vocabulary", type=int, default=500)
    parser.add_argument("--dim", type=int, default=512, help="channels of predictor and joiner")
    parser.add_argument("--utterances", type=int, default=50, help="utterances in the batch")
    parser.add_argument("--beams", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    models = {"RNN-T": Model(args.vocabulary, args.dim, ()).eval(), "TDT": Model(args.vocabulary, args.dim, DURATIONS).eval()}
    models["RNN-T"].predictor.load_state_dict(models["TDT"].predictor.state_dict())
    models["RNN-T"].joiner.predictor_proj.load_state_dict(models["TDT"].joiner.predictor_proj.state_dict())
    encoder_out, texts = speech(models["TDT"], args.utterances)
    encoder_out = EncoderOut(encoder_out.frames_BSD.to(args.device), encoder_out.lens_B.to(args.device))
    for model in models.values():
        model.to(args.device)
    frames = int(encoder_out.lens_B.sum())
    print(
        f"torch {torch.__version__} on {args.device}, {args.threads} thread(s): {args.utterances} utterances, {0.04 * frames:.0f} s, "
        f"{sum(map(len, texts))} tokens in {frames} frames, vocabulary {args.vocabulary}, dim {args.dim}"
    )
    print(f"{'search':<16}{'model':<8}{'ms':>8}{'x greedy':>10}{'x RNN-T':>9}{'calls':>8}{'per frame':>11}{'errors':>9}")
    greedy: dict[str, float] = {}
    searches: dict[str, Any] = {"greedy": Greedy.Config(), **{f"beam {k}": ModifiedBeam.Config(beam=k) for k in args.beams}}
    for name, config in searches.items():
        for family, model in models.items():
            elapsed, calls, evaluations, errors = measured(model, encoder_out, texts, config, args.seconds)
            own, rnnt = greedy.setdefault(family, elapsed), greedy["RNN-T"]
            ratios = f"{elapsed / own:>10.2f}{elapsed / rnnt:>9.2f}"
            print(f"{name:<16}{family:<8}{1e3 * elapsed:>8.1f}{ratios}{calls:>8}{evaluations:>11.2f}{errors:>9.1%}")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
