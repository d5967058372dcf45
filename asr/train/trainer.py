"""The training loop: epochs of steps, validation, checkpoints, and going on after whatever happened."""
from __future__ import annotations

import json
import logging
import shlex
import signal
import sys
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Literal, Mapping

import torch
from torch import nn

from asr.files import atomic_write
from asr.models.adapters import load_trained, trained_state
from asr.source import source
from asr.train.checkpoints import CheckpointStore, RunningSum
from asr.train.clipping import CLIPPINGS
from asr.train.config import TrainConfig
from asr.train.distributed import Ranks
from asr.train.environment import check_amp, choose_device, device_name
from asr.train.optimizers import OPTIMIZERS
from asr.train.problems import Problems
from asr.train.progress import Progress, memory_gb
from asr.train.schedules import SCHEDULES
from asr.train.signals import StopSignals
from asr.train.step import LossScale, Piece, Step, StepResult, seed_everything
from asr.types import Batch

log = logging.getLogger(__name__)

Loader = Callable[[int, int], Iterable[Batch]]
"""``loader(epoch, skip_batches)``: this process's share of the epoch's micro-batches after the first ``skip_batches`` (counted over
all processes); batch i of the epoch belongs to process i modulo their number."""

Validation = Callable[[], Iterable[Batch]]
"""All batches of the validation set, the same in every process."""

Outcome = Literal["finished", "stopped", "up to date"]

MAX_ROLLBACKS = 5


@dataclass
class Position:
    """Steps taken; whole epochs done; micro-batches of the current epoch done, over all processes."""

    step: int = 0
    epoch: int = 0
    batch: int = 0


class Trainer:
    """Trains ``model`` with ``losses`` into ``exp_dir``.

    resume: "auto" goes on from the newest whole checkpoint where there is one; "never" removes what an earlier run left.
    identity: JSON-able description of everything the weights depend on. chosen: the part of it that is no option's default, all of it
        if None: what else the checkpoints lack are options that are newer than they.

    Raises ValueError for a device that is not there, and where the checkpoints in ``exp_dir`` were made under another identity.
    """

    def __init__(
        self, config: TrainConfig, model: Any, losses: nn.Module, exp_dir: Path, *,
        seed: int, resume: Literal["auto", "never"] = "auto", identity: Mapping[str, Any] | None = None,
        chosen: Mapping[str, Any] | None = None, ranks: Ranks | None = None,
    ) -> None:
        self.config, self.exp_dir, self.seed = config, exp_dir, seed
        self.identity = json.loads(json.dumps(dict(identity or {})))
        self.chosen = self.identity if chosen is None else chosen
        self.ranks = ranks or Ranks()
        if config.batches_per_step % self.ranks.size:
            raise ValueError(
                f"train.batches_per_step is {config.batches_per_step}: it must be a multiple of the number of processes, {self.ranks.size}"
            )
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.device = choose_device(config.device, self.ranks)
        check_amp(config.amp, self.device)
        self.model, self.losses = model.to(self.device), losses.to(self.device)
        if config.activation_checkpointing:
            self.model.checkpoint_activations()
        parameters = [p for p in [*self.model.parameters(), *self.losses.parameters()] if p.requires_grad]
        self.optimizer: Any = OPTIMIZERS[config.optimizer.type](config.optimizer, parameters)
        self.schedule: Any = SCHEDULES[config.schedule.type](config.schedule)
        self.clipping: Any = CLIPPINGS[config.optimizer.clipping.type](config.optimizer.clipping)
        self.store = CheckpointStore(exp_dir / "checkpoints", config.checkpoints)
        self.average = RunningSum(self.model)
        self.scale = LossScale.of(config.amp)
        self.position = Position()
        self.lr_factor = 1.0
        self.audio_seconds = 0.0
        self._signals = StopSignals()
        self._bad_streak = self._rollbacks = 0
        self._seconds_before = 0.0
        self._started = self._last_save = time.monotonic()
        self._epoch_length: int | None = None
        self._fraction_before: float | None = None
        self._saved_step = -1
        self._progress: Progress | None = None
        self._restore(resume)
        self.problems = Problems(exp_dir / "problems.jsonl")
        self.step = Step(self.model, self.losses, self.optimizer, self.clipping, self.scale, self.problems, self.ranks, self.device,
                         config.amp)

    # ------------------------------------------------------------------------------------------------------------ the run

    @property
    def up_to_date(self) -> bool:
        """Whether an earlier run used up the budget."""
        path = self.exp_dir / "train_summary.json"
        if (self.exp_dir / "unfinished").exists() or not path.exists():
            return False
        # The last checkpoint may be from a moment before the time was used up. The summary's seconds are rounded.
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"] + 0.05
        out_of_time = self.config.max_minutes is not None and seconds >= 60 * self.config.max_minutes
        return self._spent(out_of_time or any(self.ranks.gather(self._out_of_time())))

    def run(self, loader: Loader, validation: Validation | None = None) -> Outcome:
        """Trains until the budget is spent ("finished"; "up to date" where it was before) or SIGTERM comes ("stopped").

        SIGTERM and Ctrl-C write a checkpoint between two steps; Ctrl-C then raises KeyboardInterrupt.
        The file ``unfinished`` lies in the experiment's directory from the beginning until training has finished, whatever happens.
        """
        if self.up_to_date:
            return "up to date"
        if self.ranks.main:
            with atomic_write(self.exp_dir / "unfinished") as file:
                file.write("Training has not come to its end: it still runs, or the same 'asr train' command goes on with it.\n")
            (self.exp_dir / "train_summary.json").unlink(missing_ok=True)
        self._started = self._last_save = time.monotonic()
        if self.position.step == 0:
            self._save_step()
        else:
            log.info("going on from step %d, in epoch %d", self.position.step, self.position.epoch + 1)
        with self._signals:
            if self.ranks.main:
                self._progress = Progress(self.exp_dir, self.position.step, self.position.epoch, self.config.epochs, self.device)
            self.step.stop_requested = lambda: self._signals.received is not None or self._out_of_time()
            self._fraction_before = self._fraction()
            try:
                while not self._spent():
                    if not self._train_epoch(loader, validation):
                        self._save_step()
                        return self._stopped()
                if self.position.batch == self._epoch_length:
                    self._end_epoch(validation)
                elif self.position.batch:  # the budget ended within an epoch
                    self._validate(validation)
                    self._save_step()
            finally:
                if self._progress is not None:
                    self._progress.close()
        self._write_summary()
        if self._signals.received == signal.SIGINT:
            raise KeyboardInterrupt  # training had come to its end, but what follows it is not wanted
        return "finished"

    def _train_epoch(self, loader: Loader, validation: Validation | None) -> bool:
        """Trains to the end of the epoch, of the budget, or to a rollback; False where a signal asked to stop."""
        position = self.position
        self.model.train()
        self.losses.train()
        batches = loader(position.epoch, position.batch)
        self._epoch_length = length_of(batches) or self._epoch_length
        if self._progress is not None:
            self._progress.start_epoch(position.epoch, self._epoch_length, position.batch)
        iterator = iter(batches)
        while True:
            try:
                waiting = time.monotonic()
                pieces = self._take(iterator)
                waited = time.monotonic() - waiting
            except Exception:
                if self._signals.received is None or self.ranks.size > 1:
                    raise
                return False  # Ctrl-C reaches the loader's workers too
            result = self.step(pieces, position.step, position.epoch, self._lr())
            if not result.batches:
                return self._end_epoch(validation)
            self._after_step(result, waited)
            if self._bad_streak >= self.config.max_bad_steps:
                self._roll_back()
                return True
            if result.stop and self._signalled():
                return False
            if self._spent(result.stop):
                return True
            self._save_if_due()

    def _take(self, iterator: Iterator[Batch]) -> list[Piece]:
        """This process's micro-batches of the next step; fewer, or none, at the end of the epoch."""
        share = self.config.batches_per_step // self.ranks.size
        first = self.position.batch + self.ranks.rank
        return [
            Piece(batch, (self.seed, self.position.epoch, first + index * self.ranks.size))
            for index, batch in enumerate(islice(iterator, share))
        ]

    def _after_step(self, result: StepResult, waited: float) -> None:
        position = self.position
        lr = self._lr()
        position.step += 1
        position.batch += result.batches
        self.audio_seconds += result.audio_seconds
        if result.bad:
            self._bad_streak += 1
            log.warning("step %d skipped: %s", position.step,
                        "no utterance has a finite loss" if not result.frames else "the gradient is not finite")
        elif result.applied:
            self._bad_streak = 0
        if position.step % self.config.average_period == 0:
            self.average.add()
        if self._progress is not None:
            self._progress.step(result, waited)
            if position.step % self.config.log_interval == 0:
                self._progress.interval(position.step, position.epoch, lr, self.seconds, self._eta())

    def _signalled(self) -> bool:
        return any(self.ranks.gather(self._signals.received is not None))

    def _end_epoch(self, validation: Validation | None) -> bool:
        """Validates and writes the epoch's checkpoint; False where a signal came first (the validation is then done on resuming)."""
        position = self.position
        if not position.batch:
            raise ValueError(f"epoch {position.epoch + 1}: the loader gave no batches; is the training set empty, or filtered away?")
        self._epoch_length = position.batch
        if self._progress is not None:
            self._progress.end_epoch()
        if (position.epoch + 1) % self.config.validate_every == 0 or position.epoch + 1 == self.config.epochs:
            self._validate(validation)
        if self._signalled():
            return False
        position.epoch, position.batch = position.epoch + 1, 0
        self._save("epoch", position.epoch)
        return True

    @torch.no_grad()
    def _validate(self, validation: Validation | None) -> None:
        if validation is None:
            return
        self.ranks.average_buffers(self.model)
        self.model.eval()
        self.losses.eval()
        sums: dict[str, float] = {"loss": 0.0, "frames": 0.0, "no_alignment": 0.0}
        for index, batch in enumerate(validation()):
            if self._signals.received is not None:
                break
            if index % self.ranks.size != self.ranks.rank:
                continue
            seed_everything(self.seed, index)
            loss, frames_B = self.step.loss(batch.to(self.device), self.position.step)
            finite_B = torch.isfinite(loss.total_B)
            for name, value_B in {"loss": loss.total_B, **{f"part {name}": part for name, part in loss.parts.items()}}.items():
                sums[name] = sums.get(name, 0.0) + float(value_B[finite_B].double().sum())
            sums["frames"] += int(frames_B[finite_B].sum())
            sums["no_alignment"] += int((~finite_B).sum())
        self.model.train()
        self.losses.train()
        if self._signalled():
            return
        shares = self.ranks.gather(sums)
        total = {name: sum(share.get(name, 0.0) for share in shares) for name in sorted(set().union(*shares))}
        frames = max(total["frames"], 1)
        if self._progress is not None:
            parts = {name[5:]: value / frames for name, value in total.items() if name.startswith("part ")}
            self._progress.validation({
                "step": self.position.step, "epoch": self.position.epoch + 1, "loss": total["loss"] / frames, "parts": parts,
                "no_alignment": int(total["no_alignment"]), "seconds": round(self.seconds, 3),
            })

    # ------------------------------------------------------------------------------------------------------- the position

    @property
    def seconds(self) -> float:
        """Wall time of training, over all runs that led here."""
        return self._seconds_before + time.monotonic() - self._started

    def _lr(self) -> float:
        position = self.position
        return self.config.optimizer.lr * self.schedule.factor(position.step, position.epoch, self._done() or 0.0) * self.lr_factor

    def _out_of_time(self) -> bool:
        return self.config.max_minutes is not None and self.seconds >= 60 * self.config.max_minutes

    def _spent(self, out_of_time: bool | None = None) -> bool:
        """Whether the budget is used up; ``out_of_time`` is what the processes agreed on in a step, asked of the clock if None."""
        if out_of_time is None:
            out_of_time = any(self.ranks.gather(self._out_of_time()))
        config, position = self.config, self.position
        return position.epoch >= config.epochs or (config.max_steps is not None and position.step >= config.max_steps) or out_of_time

    def _done(self) -> float | None:
        """How much of the epochs or steps is done; None where the length of an epoch is not known yet and matters."""
        config, position = self.config, self.position
        used = [position.step / config.max_steps] if config.max_steps else []
        if self._epoch_length:
            used.append((position.epoch + position.batch / self._epoch_length) / config.epochs)
        elif position.batch == 0:
            used.append(position.epoch / config.epochs)
        return max(used, default=None)

    def _fraction(self) -> float | None:
        """How much of the budget is used, minutes too."""
        used = [self._done(), self.seconds / (60 * self.config.max_minutes) if self.config.max_minutes else None]
        return max((fraction for fraction in used if fraction is not None), default=None)

    def _eta(self) -> float | None:
        before, now = self._fraction_before, self._fraction()
        if before is None or now is None or now <= before:
            return None
        return (time.monotonic() - self._started) * (1 - now) / (now - before)

    # ---------------------------------------------------------------------------------------------------------- the state

    def _tensors(self) -> dict[str, Any]:
        return {
            "model": trained_state(self.model),
            "losses": dict(self.losses.state_dict()),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],  # its settings are the config's
        }

    def _values(self) -> dict[str, Any]:
        return {
            "position": asdict(self.position),
            "clipping": self.clipping.state_dict(),
            "loss_scale": asdict(self.scale),
            "lr_factor": self.lr_factor,
            "bad_streak": self._bad_streak,
            "seconds": self.seconds,
            "audio_seconds": self.audio_seconds,
            "identity": self.identity,
        }

    def _restore(self, resume: str) -> None:
        if self.ranks.main:
            self.store.sweep()
            if resume == "never":
                self.store.clear()
                for name in ("train.jsonl", "problems.jsonl", "train_summary.json"):
                    (self.exp_dir / name).unlink(missing_ok=True)
        self.ranks.wait()
        state = self.store.newest()
        if state is not None:
            self._check_identity(state)
            self._load(state)

    def _load(self, state: Mapping[str, Any]) -> None:
        load_trained(self.model, state["model"])
        self.losses.load_state_dict(state["losses"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state["optimizer"]})
        self.clipping.load_state_dict(state["clipping"])
        self.scale.value, self.scale.calm = state["loss_scale"]["value"], state["loss_scale"]["calm"]
        self.position = Position(**state["position"])
        self.lr_factor, self._bad_streak = state["lr_factor"], state["bad_streak"]
        self._seconds_before, self.audio_seconds = state["seconds"], state["audio_seconds"]

    def _check_identity(self, state: Mapping[str, Any]) -> None:
        differing = differences(state["identity"], self.identity, self.chosen)
        if differing:
            raise ValueError(
                f"{self.exp_dir}: its checkpoints were trained with another config:\n  " + "\n  ".join(differing)
                + "\nset these back, choose another --exp-dir, or start anew with --resume never"
            )

    def _save_if_due(self) -> None:
        every = self.config.checkpoints
        due_step = every.every_steps is not None and self.position.step % every.every_steps == 0
        due_time = self.ranks.size == 1 and time.monotonic() - self._last_save >= 60 * every.every_minutes
        if (due_step or due_time) and self._bad_streak == 0:
            self._save_step()

    def _save_step(self) -> None:
        if self._saved_step != self.position.step:
            self._save("step", self.position.step)

    def _save(self, kind: Literal["epoch", "step"], number: int) -> None:
        self.ranks.average_buffers(self.model)
        if self.ranks.main:
            self.store.save(self._tensors(), self._values(), kind, number)
        self.ranks.wait()
        self._last_save, self._saved_step, self._rollbacks = time.monotonic(), self.position.step, 0

    def _roll_back(self) -> None:
        failed_at = self.position.step
        state = self.store.newest()
        assert state is not None, "a checkpoint is written before the first step"
        self._rollbacks += 1
        if self._rollbacks > MAX_ROLLBACKS:
            raise ValueError(
                f"{self.exp_dir}: training diverges at step {failed_at} even with {0.5 ** MAX_ROLLBACKS:g} of the learning rate; "
                "look into problems.jsonl, and lower train.optimizer.lr or lengthen the warm-up"
            )
        seconds, audio_seconds = self.seconds, self.audio_seconds
        self._load(state)
        self._seconds_before, self._started, self.audio_seconds = seconds, time.monotonic(), audio_seconds
        self.lr_factor *= 0.5 ** self._rollbacks
        self._bad_streak = 0
        log.warning("%d steps in a row had no finite gradient: back from step %d to step %d, with %g of the learning rate",
                    self.config.max_bad_steps, failed_at, self.position.step, self.lr_factor)
        if self._progress is not None:
            self._progress.event("rollback", step=self.position.step, failed_at=failed_at, lr_factor=self.lr_factor)
            self._progress.end_epoch()

    def _stopped(self) -> Outcome:
        log.info("stopped at step %d with a checkpoint; the same command goes on from there", self.position.step)
        if self._signals.received == signal.SIGINT:
            raise KeyboardInterrupt
        return "stopped"

    def _write_summary(self) -> None:
        if not self.ranks.main:
            return
        tree = source()
        summary = {
            "steps": self.position.step, "epochs": self.position.epoch, "seconds": round(self.seconds, 1),
            "audio_hours": round(self.audio_seconds / 3600, 4), "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": device_name(self.device), "processes": self.ranks.size, "commit": tree.commit, "dirty": tree.dirty,
            "memory_gb": round(memory_gb(self.device), 2), "command": shlex.join(["asr", *sys.argv[1:]]), "seed": self.seed,
            "init_from": self.config.init_from,
        }
        with atomic_write(self.exp_dir / "train_summary.json") as file:
            json.dump(summary, file, indent=1)
        (self.exp_dir / "unfinished").unlink(missing_ok=True)


def differences(there: Any, now: Any, chosen: Any, key: str = "") -> list[str]:
    """One line per key of nested mappings whose values differ, but for those that are neither there nor ``chosen``."""
    if isinstance(there, dict) and isinstance(now, dict):
        chosen = chosen if isinstance(chosen, Mapping) else {}
        return [
            line
            for name in sorted({*there, *(name for name in now if name in chosen)})
            for line in differences(there.get(name), now.get(name), chosen.get(name), f"{key}.{name}" if key else name)
        ]
    return [] if there == now else [f"{key}: {there} there, {now} now"]


def length_of(batches: Any) -> int | None:
    """Micro-batches of the whole epoch over all processes, where the loader knows."""
    return getattr(batches, "num_batches", None)
