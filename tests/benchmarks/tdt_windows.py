"""Where the windows of pruned TDT may come from: how much of the full lattice each way of finding them keeps.

    python tests/benchmarks/tdt_windows.py --exp-dir exp/tdt --data-dir data [--range 5] [--steps 200] [--batches 10]

The model of an experiment with durations is frozen as it was after its first epoch, and as it is after its last. Linear joiners are trained
on the train split for so many steps, then each way of finding windows is measured on dev batches. "inside": the share of the full
lattice's posterior at the nodes within windows. "loss gap": how much greater the pruned loss is than the full one, in nats per token,
over the utterances that have an alignment inside their windows; "cut off" are the others.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
from torch import Tensor

from asr.cli.decode import load_recogniser
from asr.cli.program import config_arguments, open_experiment, program
from asr.data import BatchConfig, training_loader
from asr.losses.alignment import NOWHERE, align_ctc
from asr.losses.arcs import Arcs, all_arcs, next_tokens
from asr.losses.lattice import LatticeOut, forward_backward, tdt_forward_backward
from asr.losses.pruned import small_linear
from asr.losses.simple_joiner import pruning_window, reached_rows, smoothed_arcs, smoothed_durations
from asr.models.transducer import Transducer
from asr.types import EncoderOut, Targets

Find = Callable[[EncoderOut, Targets, LatticeOut], Tensor]
"""(B, S, W) posterior of labels, from which windows follow, given also the full lattice of the model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    config_arguments(parser)
    parser.add_argument("--range", type=int, default=5, help="rows of a window")
    parser.add_argument("--steps", type=int, default=200, help="training steps of the linear joiners")
    parser.add_argument("--batches", type=int, default=10, help="batches of dev that are measured")


class SimpleJoiner(torch.nn.Module):
    """A linear joiner, of tokens and durations or of tokens alone, with the smoothing that the loss has by default."""

    def __init__(self, model: Transducer, durations: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.durations = [model], durations
        self.am = small_linear(model.encoder.output_dim, model.vocab_size + len(durations))
        self.lm = small_linear(model.predictor.output_dim, model.vocab_size + len(durations))

    def forward(self, encoder_out: EncoderOut, targets: Targets) -> LatticeOut:
        with torch.no_grad():
            predictor_BWD = self.model[0].predictor(targets.tokens_BU)
        count = self.model[0].vocab_size
        am, lm = self.am(encoder_out.frames_BSD), self.lm(predictor_BWD)
        valid_BW = torch.arange(lm.shape[1]) <= targets.lens_B.unsqueeze(1)
        arcs = smoothed_arcs(am[..., :count], lm[..., :count], next_tokens(targets), valid_BW, 0.0, 0.25)
        lens = encoder_out.lens_B, targets.lens_B
        if not self.durations:
            return forward_backward(*arcs, *lens, "regular")
        durations = smoothed_durations(am[..., count:], lm[..., count:], valid_BW, 0.0, 0.25)
        return tdt_forward_backward(*arcs, durations, *lens, self.durations)


def trained(joiner: SimpleJoiner, batches: Iterator[tuple[EncoderOut, Targets]]) -> SimpleJoiner:
    optimizer = torch.optim.Adam(joiner.parameters(), lr=1e-2)
    for encoder_out, targets in batches:
        optimizer.zero_grad()
        (-joiner(encoder_out, targets).log_prob_B.sum() / targets.lens_B.sum()).backward()
        optimizer.step()
    return joiner


def ctc_alignment(model: Transducer, encoder_out: EncoderOut, targets: Targets) -> Tensor:
    """(B, S, W): 1 where the best path of the CTC head begins a token."""
    frames_BU = align_ctc(model, encoder_out, targets).frames_BU
    taken_BSW = torch.zeros(*encoder_out.frames_BSD.shape[:2], frames_BU.shape[1] + 1)
    taken_BSW[:, :, :-1].scatter_(1, frames_BU.clamp(min=0).unsqueeze(1), (frames_BU != NOWHERE).float().unsqueeze(1))
    return taken_BSW


def evenly(encoder_out: EncoderOut, targets: Targets) -> Tensor:
    """Tokens spread evenly over the utterance."""
    taken_BSW = torch.zeros(len(targets.lens_B), encoder_out.frames_BSD.shape[1], targets.tokens_BU.shape[1] + 1)
    for b, (frames, tokens) in enumerate(zip(encoder_out.lens_B.tolist(), targets.lens_B.tolist())):
        for token in range(tokens):
            taken_BSW[b, (2 * token + 1) * frames // (2 * tokens), token] = 1.0
    return taken_BSW


def restricted(arcs: Arcs, first_BS: Tensor, width: int) -> Arcs:
    rows_BSR = first_BS.unsqueeze(2) + torch.arange(width)
    blank, label, *durations = (x.gather(2, rows_BSR) for x in (arcs.blank_BSW, arcs.label_BSW, *arcs.duration_LBSW))
    return Arcs(blank, label, torch.stack(durations))


def measure(model: Transducer, batches: list[tuple[EncoderOut, Targets]], ways: dict[str, Find], width: int) -> None:
    for name, find in ways.items():
        inside, gap, tokens, cut, utterances = 0.0, 0.0, 0, 0, 0
        for encoder_out, targets in batches:
            lens, durations = (encoder_out.lens_B, targets.lens_B), model.durations
            arcs = all_arcs(model, encoder_out, targets)
            full = tdt_forward_backward(*arcs, *lens, durations)
            label_BSW = find(encoder_out, targets, full)
            rows = min(width, label_BSW.shape[2])
            first_BS = pruning_window(reached_rows(label_BSW), label_BSW, *lens, rows, step=rows - 1)
            pruned_B = tdt_forward_backward(*restricted(arcs, first_BS, rows), *lens, durations, first_BS=first_BS).log_prob_B
            leaving_BSW = full.blank_posterior_BSW + full.label_posterior_BSW
            kept_BSR = leaving_BSW.gather(2, first_BS.unsqueeze(2) + torch.arange(rows))
            possible_B = pruned_B.isfinite()
            inside += float((kept_BSR.sum((1, 2)) / leaving_BSW.sum((1, 2))).sum())
            gap += float((full.log_prob_B - pruned_B)[possible_B].sum())
            tokens += int(lens[1][possible_B].sum())
            cut, utterances = cut + int((~possible_B).sum()), utterances + len(possible_B)
        found = f"{inside / utterances:>8.2%} inside{gap / max(tokens, 1):>10.4f} loss gap{cut:>6} of {utterances} cut off"
        print(f"  {name:<48}{found}", flush=True)


def run(args: argparse.Namespace) -> None:
    config, layout = open_experiment(args)
    recogniser = load_recogniser(config, layout, "cpu")
    model = recogniser.model.requires_grad_(False)
    epochs = sorted(layout.checkpoints.glob("epoch-*.pt"), key=lambda path: int(path.stem.split("-")[1]))

    def batches(split: str, count: int) -> Iterator[tuple[EncoderOut, Targets]]:
        plain = BatchConfig(max_duration=100.0, workers=0, spec_augment=None)
        loader = training_loader(layout.features(split), plain, config.features, recogniser.tokenizer, seed=0, epoch=0)
        for _, batch in zip(range(count), loader):
            assert batch.targets is not None
            yield model.encode(batch.features_BTF, batch.feature_lens_B), batch.targets

    def labels_of(path: Path) -> list[Tensor]:
        """Posteriors of labels over the full lattice of the model as it was in a checkpoint, by batch of dev."""
        model.load_state_dict(torch.load(path, map_location="cpu")["model"])
        return [
            tdt_forward_backward(*all_arcs(model, *batch), batch[0].lens_B, batch[1].lens_B, model.durations).label_posterior_BSW
            for batch in batches("dev", args.batches)
        ]

    earlier: Any = None
    for path in (epochs[0], epochs[-1]):
        labels = labels_of(path)
        joiners = {durations: trained(SimpleJoiner(model, durations), batches("train", args.steps)) for durations in ((), model.durations)}
        dev = list(batches("dev", args.batches))
        ways: dict[str, Find] = {
            "linear joiner of tokens and durations": lambda e, t, full: joiners[model.durations](e, t).label_posterior_BSW,  # noqa: B023
            "linear joiner of tokens alone, as RNN-T": lambda e, t, full: joiners[()](e, t).label_posterior_BSW,  # noqa: B023
        }
        if model.ctc is not None:
            ways["best path of the CTC head"] = lambda e, t, full: ctc_alignment(model, e, t)
        if earlier is not None:
            before = iter(earlier)
            ways[f"the model's own posteriors after {epochs[0].stem}"] = lambda e, t, full: next(before)  # noqa: B023
        ways["tokens spread evenly"] = lambda e, t, full: evenly(e, t)
        ways["the model's own posteriors (the best there is)"] = lambda e, t, full: full.label_posterior_BSW
        print(f"{path.stem}, range {args.range}", flush=True)
        with torch.no_grad():
            measure(model, dev, ways, args.range)
        earlier = labels


if __name__ == "__main__":
    sys.exit(program(add_arguments, run, __doc__))
