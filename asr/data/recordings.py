"""Features of audio: of whole utterances in batches, of recordings of any length piece by piece. Shape legend: asr/types.py."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.features import Units
from asr.types import Batch

PIECE = 10.0
"""Seconds of a long recording that are read and computed at a time."""

MARGIN = 0.1
"""Seconds of audio on each side of a piece that its features and its resampling may depend on."""


def duration(path: Path) -> float:
    """Seconds of an audio file. Raises ValueError for what is not readable audio."""
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(f"{path}: not readable as audio ({error})") from None
    return float(info.frames / info.samplerate)


def audio_batches(audio: Iterable[tuple[str, Tensor]], extractor: Any, seconds: float) -> Iterator[Batch]:
    """Utterances (id, samples) in the order given, in batches of at most so many seconds, padding included, or of one utterance.

    extractor: of features, see ``asr.features.open_features``. Raises ValueError naming the utterance that is too short.
    """
    some: list[tuple[str, Tensor]] = []
    for id, samples in audio:
        longest = max([len(samples), *(len(other) for _, other in some)])
        if some and longest * (len(some) + 1) > seconds * extractor.config.sample_rate:
            yield _batch(some, extractor)
            some = []
        some.append((id, samples))
    if some:
        yield _batch(some, extractor)


def _batch(audio: list[tuple[str, Tensor]], extractor: Any) -> Batch:
    features: list[Tensor] = []
    starts: list[Tensor] = []
    for id, samples in audio:
        try:
            matrix = extractor(samples)
        except ValueError as error:
            raise ValueError(f"{id}: {error}") from None
        if isinstance(extractor, Units):
            matrix, starts_T = extractor.view(matrix)
            starts.append(starts_T)
        features.append(matrix)
    return Batch(
        pad_sequence(features, batch_first=True, padding_value=extractor.config.padding_value), torch.tensor([len(f) for f in features]),
        ids=tuple(id for id, _ in audio), texts=("",) * len(audio),
        durations=tuple(len(samples) / extractor.config.sample_rate for _, samples in audio), unit_starts=tuple(starts) or None,
    )


def feature_pieces(path: Path, config: Any, extractor: Callable[[Tensor], Tensor], seconds: float = PIECE) -> Iterator[Tensor]:
    """Features (T, F) of about so many seconds each, which together are those of the whole recording, channels averaged.

    config, extractor: of features as in ``asr.features.FEATURES``; what they make of a frame depends on ``MARGIN`` seconds around it.
    """
    import soundfile
    from scipy.signal import resample_poly

    with soundfile.SoundFile(path) as file:
        common = gcd(file.samplerate, config.sample_rate)
        up, down = config.sample_rate // common, file.samplerate // common
        hop = round(config.frame_shift * config.sample_rate)
        unit = hop * down  # samples of the file that are a whole number of frames (``up``), whatever the two rates
        margin, length = (max(1, math.ceil(s * file.samplerate / unit)) for s in (MARGIN, seconds))  # in units
        for first in range(0, math.ceil(file.frames / unit), length):
            before = min(margin, first)
            file.seek((first - before) * unit)
            samples = file.read((before + length + margin) * unit, dtype="float32", always_2d=True).mean(axis=1)
            if up != down:
                samples = resample_poly(samples, up, down).astype("float32")
            last = (first + length + margin) * unit >= file.frames
            if len(samples) - before * up * hop < hop:
                return  # less than a frame is left
            features = extractor(torch.from_numpy(samples))[before * up :]
            yield features if last else features[: length * up]
            if last:
                return
