"""Changes to the waveform while a batch is loaded: background noise and volume. Speed is chosen when the batches are planned."""
from __future__ import annotations

import math
import random
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import Tensor

from asr.config import Config as BaseConfig

if TYPE_CHECKING:
    from lhotse import Recording

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


class Noise:
    """Recordings of noise, mixed under speech."""

    class Config(BaseConfig):
        """dir: a directory with audio files, at any depth and of any sample rate (MUSAN's, for example).
        probability: of an utterance getting noise. snr: lowest and highest signal-to-noise ratio, in dB, drawn evenly.
        """

        dir: Path
        probability: float = Field(default=0.5, ge=0, le=1)
        snr: tuple[float, float] = (10.0, 20.0)

    def __init__(self, config: "Noise.Config", sample_rate: int) -> None:
        """Raises ValueError where the directory holds no audio."""
        self.config = config
        self.recordings = noise_recordings(config.dir, sample_rate)

    def __call__(self, samples: Tensor, rng: random.Random) -> Tensor:
        """A mixture (samples,) of the same length, speech unchanged in level; silence gets no noise."""
        config = self.config
        if rng.random() >= config.probability:
            return samples
        recording = rng.choice(self.recordings)
        noise = self._excerpt(recording, samples.numel(), rng)
        snr = rng.uniform(*config.snr)
        speech_power, noise_power = float(samples.square().mean()), float(noise.square().mean())
        if speech_power == 0 or noise_power == 0:
            return samples
        return samples + noise * math.sqrt(speech_power / noise_power / 10 ** (snr / 10))

    def _excerpt(self, recording: "Recording", size: int, rng: random.Random) -> Tensor:
        """``size`` samples from a random place; a recording that is too short is repeated."""
        rate = recording.sampling_rate
        room = recording.num_samples - size
        start = rng.randint(0, room) if room > 0 else 0
        audio = recording.load_audio(channels=recording.channel_ids[0], offset=start / rate, duration=size / rate if room > 0 else None)
        noise = torch.from_numpy(audio[0])
        return noise.repeat(-(-size // noise.numel()))[:size]


@lru_cache(maxsize=4)
def noise_recordings(directory: Path, sample_rate: int) -> tuple["Recording", ...]:
    from lhotse import Recording

    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"noise.dir: {directory}: no audio files ({', '.join(SUFFIXES)})")
    recordings = (Recording.from_file(path) for path in paths)
    return tuple(recording.resample(sample_rate) for recording in recordings if recording.num_samples)


def perturb_volume(samples: Tensor, factors: tuple[float, float], rng: random.Random) -> Tensor:
    """Samples times a factor between the two, even on a logarithmic scale."""
    low, high = factors
    return samples * math.exp(rng.uniform(math.log(low), math.log(high)))
