"""One optimizer step: forward and backward over its micro-batches, and what happens when one of them goes wrong."""
from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import random
from dataclasses import dataclass, field, replace
from typing import Any, Callable, ContextManager, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from asr.losses.running_average import RunningAverage
from asr.train.distributed import Ranks
from asr.train.problems import Problems
from asr.types import Batch, LossOut, Targets

log = logging.getLogger(__name__)

NO_ALIGNMENT = "its loss is infinite: the transcript has no alignment with so few encoder frames"
NAN_LOSS = "its loss is not a number"
BAD_FEATURES = "its features are not finite"
NO_GRADIENT = "part of a step that was skipped because its gradient was not finite"
NO_MEMORY = "does not fit into memory even as a batch of its own"

AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def seed_everything(*position: int) -> int:
    """Seeds Python's, numpy's and torch's generators (all devices) from a position such as (seed, epoch, batch)."""
    digest = hashlib.blake2b("/".join(map(str, position)).encode(), digest_size=8).digest()
    value = int.from_bytes(digest, "little") >> 1
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
    return value


@dataclass(frozen=True)
class Piece:
    """A micro-batch, or part of one, with the position that seeds its randomness."""

    batch: Batch
    position: tuple[int, ...]


@dataclass(frozen=True)
class StepResult:
    """Sums over the global batch of one step. ``applied`` is False where the step was skipped; ``bad`` where that needs attention
    (rather than being loss scaling's search for its scale). ``masked`` utterances had no finite loss. ``norm`` is that of the gradient
    per encoder frame, before clipping by ``kept``."""

    batches: int
    utterances: int
    masked: int
    frames: int
    loss: float
    parts: Mapping[str, float]
    audio_seconds: float
    feature_frames: int
    padded_frames: int
    norm: float
    kept: float
    applied: bool
    bad: bool
    stop: bool


@dataclass
class LossScale:
    """fp16's factor on the loss: halved when a gradient overflows, doubled after ``PATIENCE`` steps in which none did."""

    PATIENCE = 2000

    value: float = 1.0
    calm: int = 0

    @classmethod
    def of(cls, amp: str) -> "LossScale":
        return cls(2.0**10 if amp == "fp16" else 1.0)

    def update(self, finite: bool) -> None:
        self.calm = self.calm + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.calm >= self.PATIENCE:
            self.value, self.calm = self.value * 2, 0


@dataclass
class _Tally:
    """What forward and backward over this process's pieces left behind, still on the device."""

    sums: Tensor  # float64: loss, frames, finite utterances
    parts: dict[str, Tensor] = field(default_factory=dict)
    finite: list[tuple[Tensor, Tensor, tuple[str, ...]]] = field(default_factory=list)  # finite_B, total_B, ids
    host: list[float] = field(default_factory=lambda: [0.0] * 5)  # batches, utterances, seconds, feature and padded frames


class Step:
    """Callable that takes one step with the micro-batches of this process.

    The loss is the sum of all finite per-utterance losses of the global batch divided by the number of their encoder frames,
    so it does not depend on how the global batch is cut into micro-batches or spread over processes.
    """

    def __init__(
        self, model: Any, losses: nn.Module, optimizer: torch.optim.Optimizer, clipping: Any, scale: "LossScale",
        problems: Problems, ranks: Ranks, device: torch.device, amp: str,
    ) -> None:
        self.model, self.losses, self.optimizer, self.clipping = model, losses, optimizer, clipping
        self.scale, self.problems, self.ranks, self.device = scale, problems, ranks, device
        self.amp = AMP[amp]
        self.stop_requested: Callable[[], bool] = lambda: False
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        saved = set(model.state_dict())
        self._buffers = [buffer for name, buffer in model.named_buffers() if name in saved]
        self._averages = [module for module in losses.modules() if isinstance(module, RunningAverage)]
        self._part_names: list[str] | None = None

    def __call__(self, pieces: Sequence[Piece], step: int, epoch: int, lr: float) -> StepResult:
        """Takes step number ``step``. Every process must call it; one without pieces adds nothing."""
        self.model.on_step(step)
        buffers = [buffer.clone() for buffer in self._buffers]
        tally, result = self._gradients(pieces, step, epoch)
        if result.masked:
            bad_ids = self._report_masked(tally, pieces, step, epoch)
            if not math.isfinite(result.norm) or not result.frames:  # a masked loss may still send NaN backward, as 0 times infinity
                self._restore(buffers)
                utterances = result.utterances
                tally, result = self._gradients([_without(piece, bad_ids) for piece in pieces], step, epoch)
                result = replace(result, utterances=utterances, masked=utterances - result.utterances + result.masked)
        if not result.frames:
            self._restore(buffers)
            return replace(result, bad=result.batches > 0)
        if not math.isfinite(result.norm):
            self._restore(buffers)
            return self._skip(result, pieces, step, epoch)
        return self._apply(result, lr)

    def loss(self, batch: Batch, step: int) -> tuple[LossOut, Tensor]:
        """(losses, encoder frames (B,)) of a batch on the device, under autocast where that is asked for."""
        assert batch.targets is not None, "training needs batches with targets"
        with self._autocast():
            encoder_out = self.model.encode(batch.features_BTF, batch.feature_lens_B, batch.before_BTQ, batch.after_BTQ)
            encoder_out = replace(encoder_out, copies=batch.copies)
            return self.losses(encoder_out, batch.targets, self.model, step), encoder_out.lens_B

    def _autocast(self) -> ContextManager[Any]:
        return contextlib.nullcontext() if self.amp is None else torch.autocast(self.device.type, self.amp)

    def _gradients(self, pieces: Sequence[Piece], step: int, epoch: int) -> tuple[_Tally, StepResult]:
        """Sums gradients over all pieces and processes; a piece that does not fit into memory is cut in two, and all begins again."""
        waiting = list(pieces)
        while True:
            tally, failed = self._backward(waiting, step)
            if failed is None:
                break
            torch.cuda.empty_cache()
            waiting[failed:failed + 1] = self._halves(waiting[failed], step, epoch)
        tally.host[0] = len(pieces)
        self.ranks.sum_gradients(self._parameters)
        return tally, self._result(tally)

    def _backward(self, pieces: Sequence[Piece], step: int) -> tuple[_Tally, int | None]:
        """(sums, None), or (incomplete sums, index of the piece that was too large)."""
        self.optimizer.zero_grad(set_to_none=True)
        for average in self._averages:
            average.forget()
        tally = _Tally(torch.zeros(3, dtype=torch.float64, device=self.device))
        for index, piece in enumerate(pieces):
            if not len(piece.batch):
                continue
            try:
                self._backward_piece(piece, step, tally)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    log.error("step %d failed on the batch of %s", step, ", ".join(piece.batch.ids))
                    raise
                return tally, index
        return tally, None

    def _backward_piece(self, piece: Piece, step: int, tally: _Tally) -> None:
        seed_everything(*piece.position)
        batch = piece.batch.to(self.device)
        loss, frames_B = self.loss(batch, step)
        finite_B = torch.isfinite(loss.total_B)
        total = torch.where(finite_B, loss.total_B, torch.zeros_like(loss.total_B)).sum()
        (total * self.scale.value).backward()
        tally.sums += torch.stack([total.detach().double(), (frames_B * finite_B).sum().double(), finite_B.sum().double()])
        for name, part_B in loss.parts.items():
            part = torch.where(finite_B, part_B.detach().double(), 0.0).sum()
            tally.parts[name] = tally.parts[name] + part if name in tally.parts else part
        tally.finite.append((finite_B, loss.total_B.detach(), batch.ids))
        frames = int(piece.batch.feature_lens_B.sum())
        size = piece.batch.features_BTF.shape[0] * piece.batch.features_BTF.shape[1]
        for index, value in enumerate((len(batch), sum(batch.durations), frames, size), start=1):
            tally.host[index] += value

    def _result(self, tally: _Tally) -> StepResult:
        """Brings the sums together over processes and from the device, in one transfer."""
        if self._part_names is None and (names := sorted(set().union(*self.ranks.gather(set(tally.parts))))):
            self._part_names = names
        names = self._part_names or []
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        parts = torch.stack([zero, *(tally.parts.get(name, zero) for name in names)])
        host = torch.tensor([*tally.host, float(self.stop_requested())], dtype=torch.float64).to(self.device)
        summed = self.ranks.sum(torch.cat([tally.sums, host, parts]))
        norm = self.clipping.norm(self._parameters).double()
        loss, frames, finite, batches, utterances, seconds, features, padded, stop, _, *rest = torch.cat([summed, norm[None]]).tolist()
        *sums, raw_norm = rest
        return StepResult(
            batches=int(batches), utterances=int(utterances), masked=int(utterances - finite), frames=int(frames), loss=loss,
            parts=dict(zip(names, sums)), audio_seconds=seconds, feature_frames=int(features), padded_frames=int(padded),
            norm=raw_norm / (frames * self.scale.value) if frames else 0.0, kept=1.0, applied=False, bad=False, stop=stop > 0,
        )

    def _apply(self, result: StepResult, lr: float) -> StepResult:
        kept = self.clipping.coefficient(result.norm)
        gradients = [p.grad for p in self._parameters]
        torch._foreach_mul_(gradients, kept / (result.frames * self.scale.value))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        for average in self._averages:
            average.end_step(self.ranks.sum)
        if self.amp is torch.float16:
            self.scale.update(finite=True)
        return replace(result, kept=kept, applied=True)

    def _skip(self, result: StepResult, pieces: Sequence[Piece], step: int, epoch: int) -> StepResult:
        if self.amp is torch.float16 and self.scale.value > 1:
            self.scale.update(finite=False)
            return result
        self.problems.report([(id, NO_GRADIENT) for piece in pieces for id in piece.batch.ids], epoch, step)
        return replace(result, bad=True)

    def _report_masked(self, tally: _Tally, pieces: Sequence[Piece], step: int, epoch: int) -> set[str]:
        """Ids to blame. Features that are not finite are, alone: they may have spoilt the losses of the rest of their batch."""
        bad = {
            id: NAN_LOSS if math.isnan(total) else NO_ALIGNMENT
            for finite_B, total_B, ids in tally.finite
            for id, finite, total in zip(ids, finite_B.tolist(), total_B.tolist())
            if not finite
        }
        if NAN_LOSS in bad.values():
            spoilt = {
                id: BAD_FEATURES
                for piece in pieces
                for id, features_TF, length in zip(piece.batch.ids, piece.batch.features_BTF, piece.batch.feature_lens_B.tolist())
                if not torch.isfinite(features_TF[:length]).all()
            }
            bad = spoilt or bad
        self.problems.report(list(bad.items()), epoch, step)
        return set(bad)

    def _halves(self, piece: Piece, step: int, epoch: int) -> list[Piece]:
        size = piece.batch.utterances
        if size == 1:
            self.problems.report([(piece.batch.ids[0], NO_MEMORY)], epoch, step)
            return []
        log.warning("step %d: out of memory on a batch of %d utterances (%.0f s of audio, the longest %.1f s); cutting it in two",
                    step, size, sum(piece.batch.durations), max(piece.batch.durations))
        rows = list(range(size))
        return [
            Piece(_select(piece.batch, half), (*piece.position, index))
            for index, half in enumerate((rows[: size // 2], rows[size // 2:]))
        ]

    def _restore(self, buffers: Sequence[Tensor]) -> None:
        """Takes back what a forward pass that did not count did to running statistics."""
        for buffer, saved in zip(self._buffers, buffers):
            buffer.copy_(saved)


def out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "out of memory" in text or "can't allocate memory" in text


def _without(piece: Piece, ids: set[str]) -> Piece:
    kept = [index for index, id in enumerate(piece.batch.ids[: piece.batch.utterances]) if id not in ids]
    return piece if len(kept) == piece.batch.utterances else replace(piece, batch=_select(piece.batch, kept))


def _select(batch: Batch, utterances: Sequence[int]) -> Batch:
    """The batch of these utterances, in all their copies, padded no further than they need."""
    rows = [copy * batch.utterances + index for copy in range(batch.copies) for index in utterances]
    lens_B = batch.feature_lens_B[rows]
    targets = batch.targets
    if targets is not None:
        token_lens_B = targets.lens_B[rows]
        longest = int(token_lens_B.max()) if len(rows) else 0
        targets = Targets(targets.tokens_BU[rows, :longest], token_lens_B, _rows(targets.codes_BTQ, rows))
    return Batch(
        batch.features_BTF[rows, : int(lens_B.max()) if len(rows) else 0], lens_B, tuple(batch.ids[row] for row in rows),
        tuple(batch.texts[row] for row in rows), tuple(batch.durations[row] for row in rows), targets, batch.copies,
        _rows(batch.before_BTQ, rows), _rows(batch.after_BTQ, rows),
    )


def _rows(units_BTQ: Tensor | None, rows: Sequence[int]) -> Tensor | None:
    return None if units_BTQ is None else units_BTQ[list(rows)]
