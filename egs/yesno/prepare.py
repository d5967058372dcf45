"""The yesno corpus: sixty recordings of eight words, named by what they say (1 is YES, 0 is NO).

The usual halves are the first and the last thirty names in order. So all of the first half but none of the second, save one
recording, begin with NO, and a recogniser that hears only whole recordings learns the order of the words, whatever it hears. Hence
the training recordings are also cut up at the pauses, and given with some of their words in other orders, often with all that
is heard before the first word: else it is that sound that tells a NO.
"""
from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Sequence

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

HOLD_OUT = 6
"""Recordings at the end of the first half that are for tuning, not for training."""
COPIES = 16
"""Of each training recording, with its words in other orders."""
SHORTEST_PAUSE, SHORTEST_WORD = 0.1, 0.12
"""Seconds; shorter sounds are clicks."""
LONGEST_CLICK = 0.1
"""Of a word with the pauses around it, which lasts about 0.6 seconds."""
STEP = 0.01
"""Seconds between two measurements of loudness."""


def prepare(corpus_dir: Path, out: Path) -> dict[str, Path]:
    recordings = [Recording.from_file(path) for path in sorted(corpus_dir.glob("[01]_*.wav"))]
    if len(recordings) != 60:
        raise ValueError(f"{corpus_dir}: {len(recordings)} recordings named like 0_1_..._0.wav, not 60; is this the folder waves_yesno?")
    train, dev, test = recordings[: 30 - HOLD_OUT], recordings[30 - HOLD_OUT : 30], recordings[30:]
    cuts = {
        "train": [cut for recording in train for cut in [whole(recording), *reordered(recording, out)]],
        "dev": [whole(recording) for recording in dev],
        "test": [whole(recording) for recording in test],
    }
    paths = {name: out / f"{name}.jsonl.gz" for name in cuts}
    for name, path in paths.items():
        CutSet.from_cuts(cuts[name]).to_file(path)
    return paths


def whole(recording: Recording, order: Sequence[int] = range(8)) -> MonoCut:
    """The recording as a cut, with those of the words that its name says."""
    said = ["YES" if digit == "1" else "NO" for digit in recording.id.partition("-")[0].split("_")]
    text = SupervisionSegment(recording.id, recording.id, 0.0, recording.duration, text=" ".join(said[i] for i in order), language="Hebrew")
    return MonoCut(recording.id, 0.0, recording.duration, 0, supervisions=[text], recording=recording)


def reordered(recording: Recording, out: Path) -> list[MonoCut]:
    """Some of the recording's words in other orders, written into ``out``; nothing where eight words are not clearly apart.

    Before and after them comes a part of what is before and after all words; every other copy begins and ends amid some sound, as
    recordings do where someone else's word, or a click, is cut off.
    """
    samples = recording.load_audio()[0]
    words = spoken(samples, recording.sampling_rate)
    if len(words) != 8:
        return []
    rng = np.random.default_rng([*recording.id.encode()])
    around = [samples[: words[0].start], samples[words[-1].stop :]]
    cuts = []
    for copy in range(COPIES):
        order = rng.permutation(8)[: rng.integers(1, 9)].tolist()
        before, after = (around[i] for i in rng.permutation(2))
        lead, trail = np.maximum(rng.uniform(-1, 1, 2), 0)  # what is cut off: nothing of half of them
        parts = [before[int(len(before) * lead) :], *(samples[words[i]] for i in order), after[: len(after) - int(len(after) * trail)]]
        if copy % 2:
            parts = [fragment(samples[words[0]], rng), *parts, fragment(samples[words[-1]], rng)]
        path = out / f"{recording.id}-{copy:02d}.wav"
        soundfile.write(path, np.concatenate(parts), recording.sampling_rate, subtype="PCM_16")
        cuts.append(whole(Recording.from_file(path), order))
    return cuts


def fragment(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to LONGEST_CLICK somewhere in the sound."""
    length = int(len(sound) * LONGEST_CLICK * rng.uniform())
    first = rng.integers(len(sound) - length)
    return sound[first : first + length]


def spoken(samples: np.ndarray, rate: int) -> list[slice]:
    """The samples of each word, with half of the pauses beside it."""
    size = int(STEP * rate)
    loudness = np.sqrt(np.mean(samples[: len(samples) // size * size].reshape(-1, size) ** 2, axis=1))
    loudness = np.convolve(loudness, np.full(5, 0.2), mode="same")
    loud = np.flatnonzero(loudness > 0.12 * np.percentile(loudness, 95))
    sounds = np.split(loud, np.flatnonzero(np.diff(loud) > SHORTEST_PAUSE / STEP) + 1)
    ends = [np.array([0]), *sounds, np.array([len(loudness)])]
    pauses = [(before[-1] + after[0]) / 2 for before, after in pairwise(ends)]
    return [
        slice(int(before * size), int(after * size))
        for sound, (before, after) in zip(sounds, pairwise(pauses)) if len(sound) >= SHORTEST_WORD / STEP
    ]
