"""The yesno corpus: sixty recordings of eight words, named by what they say (1 is YES, 0 is NO).

The usual halves are the first and the last thirty names in order. So all of the first half but none of the second, save one
recording, begin with NO, and a recogniser that hears only whole recordings learns the order of the words, whatever it hears. Hence
the training recordings are also cut up at the pauses, and given with some of their words in other orders, with less silence around.
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
SHORTEST_PAUSE = 0.1
"""Seconds."""
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
    """Some of the recording's words in other orders, written into ``out``; nothing where the pauses are not clearly seven."""
    samples = recording.load_audio()[0]
    edges = silences(samples, recording.sampling_rate)
    if len(edges) != 9:
        return []
    rng = np.random.default_rng([*recording.id.encode()])
    words = [samples[first:last] for first, last in pairwise(edges)]
    cuts = []
    for copy in range(COPIES):
        order = rng.permutation(8)[: rng.integers(1, 9)].tolist()
        lead_in = samples[int(edges[0] * rng.uniform()) : edges[0]]
        tail = samples[edges[8] :][: int((len(samples) - edges[8]) * rng.uniform())]
        path = out / f"{recording.id}-{copy:02d}.wav"
        soundfile.write(path, np.concatenate([lead_in, *(words[i] for i in order), tail]), recording.sampling_rate, subtype="PCM_16")
        cuts.append(whole(Recording.from_file(path), order))
    return cuts


def silences(samples: np.ndarray, rate: int) -> list[int]:
    """The middle samples of the silence before the first word, of the pauses between words, and of the silence after the last."""
    size = int(STEP * rate)
    loudness = np.sqrt(np.mean(samples[: len(samples) // size * size].reshape(-1, size) ** 2, axis=1))
    loudness = np.convolve(loudness, np.full(5, 0.2), mode="same")
    loud = np.flatnonzero(loudness > 0.12 * np.percentile(loudness, 95))
    pauses = [(before + after) / 2 for before, after in pairwise(loud) if after - before > SHORTEST_PAUSE / STEP]
    return [int(edge * size) for edge in (loud[0] / 2, *pauses, (loud[-1] + len(loudness)) / 2)]
