"""Changes to the waveform while a batch is loaded: rooms, background noise, volume. Speed is chosen when the batches are planned."""
from __future__ import annotations

import math
import random
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field, model_validator
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
        self.recordings = recordings_in(config.dir, sample_rate, "noise.dir")

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


class Reverb:
    """Speech as it sounds in a room: convolved with the impulse response between a speaker and a microphone."""

    class Config(BaseConfig):
        """dir: a directory with impulse responses as audio files, at any depth and of any sample rate; the first channel counts.
            null simulates them: decaying noise after the direct sound (Polack's model: J.-D. Polack, "La transmission de l'energie
            sonore dans les salles", 1988).
        probability: of an utterance being reverberated.
        t60: simulated: shortest and longest time, in seconds, in which the sound of the room decays by 60 dB, drawn evenly.
        direct_ratio: simulated: lowest and highest energy of the direct sound relative to all that follows, in dB, drawn evenly.
        """

        dir: Path | None = None
        probability: float = Field(default=0.5, ge=0, le=1)
        t60: tuple[float, float] = (0.1, 0.7)
        direct_ratio: tuple[float, float] = (-3.0, 15.0)

        @model_validator(mode="after")
        def _consistent(self) -> "Reverb.Config":
            if not 0 < self.t60[0] <= self.t60[1]:
                raise ValueError("rir.t60: the shortest time comes first, and is above 0")
            return self

    def __init__(self, config: "Reverb.Config", sample_rate: int) -> None:
        """Raises ValueError where a directory is named that holds no audio."""
        self.config = config
        self.sample_rate = sample_rate
        self.recordings = () if config.dir is None else recordings_in(config.dir, sample_rate, "rir.dir")

    def __call__(self, samples: Tensor, rng: random.Random) -> Tensor:
        """Reverberant speech (samples,) of the same length and energy, the direct sound where the speech was."""
        if rng.random() >= self.config.probability:
            return samples
        return reverberate(samples, self._recorded(rng) if self.recordings else self._simulated(rng))

    def _recorded(self, rng: random.Random) -> np.ndarray:
        recording = rng.choice(self.recordings)
        return recording.load_audio(channels=recording.channel_ids[0])[0]

    def _simulated(self, rng: random.Random) -> np.ndarray:
        t60 = rng.uniform(*self.config.t60)
        energy_ratio = 10 ** (rng.uniform(*self.config.direct_ratio) / 10)
        time = np.arange(round(t60 * self.sample_rate)) / self.sample_rate
        room = np.random.default_rng(rng.getrandbits(63)).standard_normal(len(time)) * 10 ** (-3 * time / t60)
        room[0] = math.sqrt(energy_ratio * float(np.square(room[1:]).sum()))
        return room.astype(np.float32)


def reverberate(samples: Tensor, response: np.ndarray) -> Tensor:
    """``samples`` (samples,) convolved with a room impulse response, aligned by its strongest tap; length and energy stay as they were.

    Silence, and a response that is silent, change nothing.
    """
    from scipy.signal import fftconvolve

    dry = samples.numpy()
    direct = int(np.abs(response).argmax())
    wet = torch.from_numpy(fftconvolve(dry, response.astype(np.float32))[direct: direct + len(dry)])
    energy = float(wet.square().sum())
    return samples if energy == 0 else wet * math.sqrt(float(samples.square().sum()) / energy)


@lru_cache(maxsize=4)
def recordings_in(directory: Path, sample_rate: int, key: str) -> tuple["Recording", ...]:
    """Everything audible below ``directory``, at ``sample_rate``. key: of the config, for the error message."""
    from lhotse import Recording

    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{key}: {directory}: no audio files ({', '.join(SUFFIXES)})")
    recordings = (Recording.from_file(path) for path in paths)
    return tuple(recording.resample(sample_rate) for recording in recordings if recording.num_samples)


def perturb_volume(samples: Tensor, factors: tuple[float, float], rng: random.Random) -> Tensor:
    """Samples times a factor between the two, even on a logarithmic scale."""
    low, high = factors
    return samples * math.exp(rng.uniform(math.log(low), math.log(high)))
