"""How much audio fits into memory: ``train.batches.max_duration: auto``.

Batches of the worst kind (the longest utterance that there can be, with the most tokens that one has) are run forward and backward. Their
memory grows linearly with their number, so a few measurements foretell how many fit, and a last one makes sure.
"""
from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import replace
from typing import Any, Callable

import torch
from torch import nn

from asr.data import Extremes
from asr.train.config import TrainConfig
from asr.train.distributed import Ranks
from asr.train.environment import check_amp, choose_device
from asr.train.progress import memory_gb
from asr.train.step import AMP, out_of_memory, seed_everything
from asr.types import Targets

log = logging.getLogger(__name__)

GPU_SHARE = 0.8
"""Of the GPU's memory, where the config does not say how much."""

STATE_BYTES = 16
"""Per parameter, beside the parameter and its gradient: two moments of the optimizer (4 bytes each) and the running average (8)."""

CLOSE = 1.03
"""A number of utterances that is less than so many times greater is not worth another measurement."""


def find_max_duration(config: TrainConfig, model: Any, losses: nn.Module, worst: Extremes, ranks: Ranks) -> float:
    """Seconds of audio for ``max_duration``, the same in every process. The model and the losses are of no use afterwards.

    Raises ValueError where one utterance does not fit, and on a CPU where the config does not state how much memory there is.
    """
    device = choose_device(config.device, ranks)
    check_amp(config.amp, device)
    limit = _limit_gb(config, device)
    if config.activation_checkpointing:
        model.checkpoint_activations()
    probe = Probe(config, model.to(device).train(), losses.to(device).train(), worst, device)
    copies = config.batches.copies
    count = largest(probe, limit, (config.batches.max_utterances or copies * math.ceil(worst.total / worst.seconds)) // copies)
    count = min(ranks.gather(count))
    if not count:
        raise ValueError(
            f"train.batches.max_duration: auto: one utterance of {worst.seconds:.1f} s with {worst.tokens} tokens needs more than "
            f"{limit:.1f} GB; lower corpus.max_duration, take a smaller model, or raise train.batches.memory_gb"
        )
    seconds = math.ceil(100 * copies * count * worst.seconds) / 100
    log.info("batches of at most %.2f s of audio: %d utterances of %.1f s with %d tokens fit into %.1f GB",
             seconds, copies * count, worst.seconds, worst.tokens, limit)
    return seconds


def largest(measure: Callable[[int], float], limit: float, most: int) -> int:
    """The largest number from 1 to ``most``, to within ``CLOSE``, whose measure is within ``limit``; 0 where not even 1 is.

    measure: grows linearly from some number on; inf where it cannot be told. Numbers go up by doubling, and no further than the last
    two measurements foretell to be within the limit; what exceeds it nevertheless is approached by bisection.
    """
    fits, value, fails = 0, 0.0, most + 1
    foretold: float = 1
    candidate = 1
    while candidate > CLOSE * fits:
        measured = measure(candidate)
        if measured > limit:
            fails = candidate
        else:
            slope = (measured - value) / (candidate - fits) if fits else 0.0
            fits, value = candidate, measured
            foretold = fits + (limit - value) / slope if slope > 0 else math.inf
        middle = (fits + fails) // 2 if fails <= most else most
        candidate = int(min(2 * fits, foretold, middle))
    return fits


class Probe:
    """GB that training takes at most in a step whose batch has so many utterances of the worst kind, in the copies that the config
    asks for; inf where memory runs out."""

    def __init__(self, config: TrainConfig, model: Any, losses: nn.Module, worst: Extremes, device: torch.device) -> None:
        self._config, self._model, self._losses, self._device = config, model, losses, device
        self._worst = worst
        self._parameters = [p for p in [*model.parameters(), *losses.parameters()] if p.requires_grad]
        self._state_gb = STATE_BYTES * sum(p.numel() for p in self._parameters) / 1e9

    def __call__(self, count: int) -> float:
        _forget_peak(self._device)
        try:
            for _ in range(2):  # the second time with the gradients of the first in memory, as when steps follow each other
                self._forward_backward(count)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return math.inf
        finally:
            for parameter in self._parameters:
                parameter.grad = None
        return memory_gb(self._device) + self._state_gb

    def _forward_backward(self, count: int) -> None:
        seed_everything(count)
        tokens, copies = self._worst.tokens, self._config.batches.copies
        rows = copies * count
        if self._config.batches.max_lattice is not None:
            tokens = min(tokens, max(0, int(self._config.batches.max_lattice / (rows * self._worst.seconds)) - 1))
        features_BTF = self._model.noise(rows, self._worst.frames).to(self._device)
        lens_B = torch.full((rows,), self._worst.frames)
        targets = Targets(torch.randint(1, self._model.vocab_size, (rows, tokens)), torch.full((rows,), tokens)).to(self._device)
        self._model.on_step(0)
        amp = AMP[self._config.amp]
        with contextlib.nullcontext() if amp is None else torch.autocast(self._device.type, amp):
            encoder_out = replace(self._model.encode(features_BTF, lens_B.to(self._device)), copies=copies)
            loss = self._losses(encoder_out, targets, self._model, 0)
        loss.total_B.sum().backward()


def _limit_gb(config: TrainConfig, device: torch.device) -> float:
    stated = config.batches.memory_gb
    if stated is not None:
        return stated
    if device.type != "cuda":
        raise ValueError("train.batches.max_duration: auto: on a CPU, say how much memory training may take: train.batches.memory_gb=4, "
                         "for example; or set max_duration to a number of seconds")
    return GPU_SHARE * torch.cuda.get_device_properties(device).total_memory / 1e9


def _forget_peak(device: torch.device) -> None:
    """Makes ``memory_gb`` begin anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
