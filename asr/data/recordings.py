"""Features of recordings of any length, read and computed piece by piece. Shape legend: asr/types.py."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def feature_pieces(path: Path, config: Any, extractor: Callable[[Tensor], Tensor], seconds: float) -> Iterator[Tensor]:
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
