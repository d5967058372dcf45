"""All searches of a config over one split: what is already done is kept, the encoder runs once, scales are tuned or looked up.

A *job* is one search with one set of values; tuning makes a job of every grid point. Jobs share the encoder's output. A *part* is what one
process of several has decoded: each leaves its rows in ``<split.directory>/parts``, and the call that needs them all takes them from there.
"""
from __future__ import annotations

import logging
import math
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Iterable, Mapping

import torch

from asr import hypotheses as files
from asr.decode import streaming, tuning
from asr.decode.rescore import Paths, Rescore
from asr.decode.search import Search, Unavailable
from asr.decode.tuning import GridPoint, Tuned, Values
from asr.decode.words import Clock, to_text, to_words
from asr.files import fingerprint
from asr.types import Batch, EncoderOut, Hypothesis

log = logging.getLogger(__name__)

LOWEST_SCORE = -1e30
"""Stands in result files for the -inf of an utterance without a path, which JSON cannot say."""


@dataclass(frozen=True)
class Recogniser:
    """What decodes: a model in eval mode on its device, and what its results mean.

    lang: the language directory (``asr.lang.Lang``), or None. frame_shift: seconds per feature frame.
    checkpoint: which weights, in words. digest: of the weights, see ``asr.files.digest_of``, and of the model's config.
    chunk: seconds of audio at a time, for encoders that can stream; None for whole utterances.
    """

    model: Any
    tokenizer: Any
    lang: Any
    frame_shift: float
    checkpoint: str
    digest: str
    chunk: float | None = None

    @torch.no_grad()
    def encode(self, batch: Batch) -> list[EncoderOut]:
        """Encoder frames of the batch, in pieces where it is to be streamed."""
        if self.chunk is None:
            return [self.model.encode(batch.features_BTF, batch.feature_lens_B, batch.before_BTQ, batch.after_BTQ)]
        pieces = streaming.split(batch.features_BTF, batch.feature_lens_B, max(1, round(self.chunk / self.frame_shift)))
        return list(streaming.encode(self.model, pieces, len(batch)))

    @property
    def seconds_per_frame(self) -> float:
        return float(self.frame_shift * self.model.encoder.subsampling)

    def clock(self, unit_starts: torch.Tensor | None) -> Clock | float:
        """Seconds of encoder frames, see ``to_words``. unit_starts: frames at which the utterance's units begin, see ``Batch``."""
        if unit_starts is None:
            return self.seconds_per_frame
        starts, factor = unit_starts.tolist(), self.model.encoder.subsampling
        return lambda frame: float(starts[min(frame * factor, len(starts) - 1)] * self.frame_shift)


def basis_of(recogniser: Recogniser, config: Any) -> str:
    """Fingerprint of all that a result of the search ``config`` depends on besides the audio and tuned values."""
    directory = None if recogniser.lang is None else recogniser.lang.directory
    paths = [(directory or Path()) / name for name in config.lang_files()]
    return fingerprint(recogniser.digest, config.model_dump(mode="json"), *(path for path in paths if path.exists()))


def find_tuned(name: str, basis: str, tuned_file: Path) -> Tuned:
    """The values of the search ``name``. Raises ValueError where it was not tuned, or not on this basis."""
    tuned = tuning.read_tuned(tuned_file).get(name)
    if tuned is None or tuned.basis != basis:
        state = "has not been tuned" if tuned is None else "was tuned for other weights or settings"
        raise ValueError(
            f"search '{name}' {state}: run 'asr decode --splits dev --tune' first, or pass --untuned to use the config's own values"
        )
    return tuned


@dataclass
class Job:
    """One search with one set of values, and what it has found so far: a row for each utterance, and the seconds it took.

    config: with ``values`` in it. basis: see ``Tuned``. search: built when it turns out that there is something to decode.
    """

    name: str
    config: Any
    values: Values
    tuned_on: str | None
    basis: str
    search: Search | None = None
    found: dict[str, files.Utterance] = field(default_factory=dict)
    seconds: float = 0.0
    encoder_seconds: float = 0.0


@dataclass(frozen=True)
class Reference:
    text: str
    speaker: str | None
    duration: float


@dataclass(frozen=True)
class Split:
    """The set to decode. references: by utterance id. cuts: fingerprint of its cuts. directory: where result files go."""

    name: str
    references: Mapping[str, Reference]
    cuts: str
    directory: Path


@dataclass(frozen=True)
class Outcome:
    """One row of the table that decoding prints; reason is set, and the rest is not, where the search was skipped."""

    search: str
    reason: str = ""
    wer: float = math.nan
    values: Values = field(default_factory=dict)
    encoder_rtf: float = math.nan
    search_rtf: float = math.nan


class Driver:
    """Decodes splits with all searches of a config.

    build: makes a search of its config (``asr.decode.build_search`` with everything but the config bound).
    tuned_file: where chosen values are kept.
    """

    def __init__(self, recogniser: Recogniser, searches: Mapping[str, Any], build: Any, tuned_file: Path) -> None:
        self.recogniser = recogniser
        self.searches = searches
        self.build = build
        self.tuned_file = tuned_file

    def decode(self, split: Split, batches: Any, *, tune: bool, untuned: bool = False, part: str = "") -> list[Outcome]:
        """Writes ``<split.directory>/<search>.jsonl`` of every search that can run here.

        batches: called when something is left to decode; gives an iterable of ``Batch`` that covers the split.
        tune: choose values here where a search has a grid. untuned: allow a search with a grid to run with its config's values.
        part: its name, where ``batches`` gives but a part of the split; it is kept for a call without, and there are no outcomes.
        Raises ValueError where a search needs tuning first.
        """
        skipped, jobs, finished = [], [], {}
        for name, config in self.searches.items():
            try:
                planned = self._plan(name, config, split, tune, untuned)
                header = self._finished(split, planned)
                if header is not None:
                    finished[name] = header
                    log.info("%s on %s: already decoded", name, split.name)
                    continue
                for job in planned:
                    job.search = self.build(job.config)
                    self._take_parts(job, split, part)
                jobs += planned
            except Unavailable as error:
                skipped.append(Outcome(name, reason=str(error)))
        if part:
            self._decode_part([job for job in jobs if not job.found], batches, split, part)
            return []
        missing = [id for id in split.references if any(id not in job.found for job in jobs)]
        if missing:
            self._run(jobs, batches(), split)
        missing = [id for id in missing if any(id not in job.found for job in jobs)]
        if missing:
            raise ValueError(f"{split.name}: {len(missing)} utterances were not loaded, as {missing[0]}; compute the features again")
        for name in dict.fromkeys(job.name for job in jobs):
            chosen = self._choose([job for job in jobs if job.name == name], split, tune)
            finished[name] = self._write(chosen, split)
            shutil.rmtree(split.directory / "parts" / name, ignore_errors=True)
        return [self._outcome(split, name, finished[name]) for name in self.searches if name in finished] + skipped

    def _plan(self, name: str, config: Any, split: Split, tune: bool, untuned: bool) -> list[Job]:
        basis = basis_of(self.recogniser, config)
        if not config.tune or (untuned and not tune):
            return [Job(name, config, {}, None, basis)]
        if tune:
            return [Job(name, config.with_values(values), values, split.name, basis) for values in tuning.grid(config.tune)]
        try:
            tuned = find_tuned(name, basis, self.tuned_file)
        except ValueError:
            self.build(config)  # a search that cannot run here is skipped, not asked to be tuned
            raise
        return [Job(name, config.with_values(tuned.values), tuned.values, tuned.split, basis)]

    def _finished(self, split: Split, jobs: list[Job]) -> files.Header | None:
        """The header of the result file that these jobs would write again, if it is there."""
        path = split.directory / f"{jobs[0].name}.jsonl"
        if not path.exists():
            return None
        header = files.read(path).header
        if len(jobs) > 1 or (jobs[0].tuned_on == split.name):
            tuned = tuning.read_tuned(self.tuned_file).get(jobs[0].name)
            current = tuned is not None and tuned.basis == jobs[0].basis and tuned.split == split.name and tuned.cuts == split.cuts
            jobs = [job for job in jobs if current and tuned is not None and job.values == tuned.values]
        same = any(header.fingerprint == self._key(job, split) for job in jobs)
        return header if header.complete and same else None

    @staticmethod
    def _key(job: Job, split: Split) -> str:
        return fingerprint(job.basis, job.values, job.tuned_on, split.cuts)

    def _take_parts(self, job: Job, split: Split, part: str) -> None:
        """Gives a job what it has found in other processes before; where it is to do a part, only what it found of that."""
        for path in sorted((split.directory / "parts" / job.name).glob(f"*.{part or '*'}.jsonl")):
            done = files.read(path)
            if done.header.fingerprint == self._key(job, split):
                job.found.update((row.id, row) for row in done.utterances)
                job.seconds += done.header.seconds
                job.encoder_seconds += done.header.encoder_seconds

    def _decode_part(self, jobs: list[Job], batches: Any, split: Split, part: str) -> None:
        if jobs:
            self._run(jobs, batches(), split)
        for job in jobs:
            key = self._key(job, split)
            path = split.directory / "parts" / job.name / f"{key[:12]}.{part}.jsonl"
            files.write(path, replace(self._header(job, split), complete=False, seconds=job.seconds), job.found.values())

    def _run(self, jobs: list[Job], batches: Iterable[Batch], split: Split) -> None:
        """Fills what the jobs have not found, and the seconds of the jobs."""
        device = next(self.recogniser.model.parameters()).device
        for batch in batches:
            undone = [job for job in jobs if any(id not in job.found for id in batch.ids)]
            if not undone:
                continue
            started = _now(device)
            pieces = self.recogniser.encode(batch.to(device))
            encoder_seconds = _now(device) - started
            clocks = [self.recogniser.clock(starts) for starts in batch.unit_starts or len(batch) * (None,)]
            first_passes: dict[str, tuple[Paths, float]] = {}
            for job in undone:
                started = _now(device)
                results, shared_seconds = _search(job, pieces, len(batch), first_passes)
                job.seconds += _now(device) - started + shared_seconds
                job.encoder_seconds += encoder_seconds
                for id, found, clock in zip(batch.ids, results, clocks):
                    job.found[id] = self._row(id, split.references[id], found[: job.config.nbest], clock, job.config.nbest)

    def _choose(self, jobs: list[Job], split: Split, tune: bool) -> Job:
        """The job with the fewest word errors; where they were grid points, the choice is kept in the file of tuned values."""
        if not (tune and jobs[0].values):
            return jobs[0]
        points = []
        for job in jobs:
            errors = tuning.word_errors((row.ref, row.hyp) for row in job.found.values())
            points.append(GridPoint(job.values, errors.errors, errors.words, round(errors.wer, 4)))
        chosen = tuning.best(points)
        entry = Tuned(chosen.values, split.name, split.cuts, jobs[0].basis, points)
        tuning.write_tuned(self.tuned_file, {**tuning.read_tuned(self.tuned_file), jobs[0].name: entry})
        return next(job for job in jobs if job.values == chosen.values)

    def _write(self, job: Job, split: Split) -> files.Header:
        lost = [id for id, found in job.found.items() if found.score == LOWEST_SCORE]
        if lost:
            log.warning("%s on %s: no path for %d utterances, left empty: %s", job.name, split.name, len(lost), " ".join(lost[:20]))
        header = self._header(job, split)
        files.write(split.directory / f"{job.name}.jsonl", header, (row for _, row in sorted(job.found.items())))
        return header

    def _header(self, job: Job, split: Split) -> files.Header:
        return files.Header(
            search=job.name,
            split=split.name,
            settings=job.config.model_dump(mode="json"),
            seconds=round(job.encoder_seconds + job.seconds, 4),
            audio_seconds=round(sum(ref.duration for ref in split.references.values()), 4),
            checkpoint=self.recogniser.checkpoint,
            complete=True,
            scales=job.values,
            tuned_on=job.tuned_on,
            encoder_seconds=round(job.encoder_seconds, 4),
            fingerprint=self._key(job, split),
        )

    def _row(self, id: str, ref: Reference, found: list[Hypothesis], clock: Clock | float, nbest: int) -> files.Utterance:
        words = tuple(to_words(found[0], self.recogniser.tokenizer, clock))
        best, *others = [files.Candidate(self._text(h), max(h.score, LOWEST_SCORE), dict(h.scores), h.tokens) for h in found]
        return files.Utterance(
            id=id, ref=ref.text, hyp=best.hyp, speaker=ref.speaker, duration=ref.duration, words=words,
            score=best.score, scores=best.scores, tokens=best.tokens, nbest=(best, *others) if nbest > 1 else (),
        )

    def _text(self, found: Hypothesis) -> str:
        return to_text(found, self.recogniser.tokenizer)

    @staticmethod
    def _outcome(split: Split, name: str, header: files.Header) -> Outcome:
        rows = files.read(split.directory / f"{name}.jsonl").utterances
        audio = max(header.audio_seconds, 1e-9)
        errors = tuning.word_errors((row.ref, row.hyp) for row in rows)
        return Outcome(
            name, wer=errors.wer if errors.words else math.nan, values=dict(header.scales), encoder_rtf=header.encoder_seconds / audio,
            search_rtf=(header.seconds - header.encoder_seconds) / audio,
        )


def table(split: str, outcomes: list[Outcome]) -> str:
    """The outcomes of one split as lines of text."""
    width = max([len("search"), *(len(outcome.search) for outcome in outcomes)])
    lines = [f"{'search':<{width}}  {'WER ' + split:>10}  RTF search  RTF encoder  values"]
    for o in outcomes:
        if o.reason:
            lines.append(f"{o.search:<{width}}  skipped: {o.reason}")
            continue
        values = " ".join(f"{key}={value:g}" for key, value in o.values.items())
        lines.append(f"{o.search:<{width}}  {o.wer:>9.2f}%  {o.search_rtf:>10.5f}  {o.encoder_rtf:>11.5f}  {values}".rstrip())
    return "\n".join(lines)


def _search(
    job: Job, pieces: list[EncoderOut], streams: int, first_passes: dict[str, tuple[Paths, float]]
) -> tuple[list[list[Hypothesis]], float]:
    """(results, seconds of a first pass that another job has run). The jobs of a rescoring search that differ in the scales of the
    second pass alone share the first."""
    assert job.search is not None
    if not isinstance(job.search, Rescore):
        return streaming.decode(job.search, pieces, streams), 0.0
    encoder_out = streaming.whole(pieces)
    key = job.name + job.config.first.model_dump_json()
    shared_seconds = first_passes[key][1] if key in first_passes else 0.0
    if key not in first_passes:
        started = _now(encoder_out.frames_BSD.device)
        paths = job.search.paths(encoder_out, job.search.first.decode(encoder_out))
        first_passes[key] = paths, _now(encoder_out.frames_BSD.device) - started
    return job.search.rank(encoder_out, first_passes[key][0]), shared_seconds


def _now(device: torch.device) -> float:
    """Seconds, after everything queued on the device has been done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
