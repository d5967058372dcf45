"""The yesno corpus: sixty recordings of eight words, named by what they say (1 is YES, 0 is NO).

The usual halves are the first and the last thirty names in order. So all of the first half but none of the second, save one
recording, begin with NO, and a recogniser that hears only whole recordings learns that NO comes first, whatever it hears. Hence
the training recordings are also given with their first one to seven words cut out at the pauses between the words.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

HOLD_OUT = 6
"""Recordings at the end of the first half that are for tuning, not for training."""
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
        "train": [cut for recording in train for cut in [whole(recording), *shortened(recording, out)]],
        "dev": [whole(recording) for recording in dev],
        "test": [whole(recording) for recording in test],
    }
    paths = {name: out / f"{name}.jsonl.gz" for name in cuts}
    for name, path in paths.items():
        CutSet.from_cuts(cuts[name]).to_file(path)
    return paths


def whole(recording: Recording, first_word: int = 0) -> MonoCut:
    """The recording as a cut, with the words that its name says from ``first_word`` on."""
    words = ["YES" if digit == "1" else "NO" for digit in recording.id.partition("-")[0].split("_")]
    text = SupervisionSegment(recording.id, recording.id, 0.0, recording.duration, text=" ".join(words[first_word:]), language="Hebrew")
    return MonoCut(recording.id, 0.0, recording.duration, 0, supervisions=[text], recording=recording)


def shortened(recording: Recording, out: Path) -> list[MonoCut]:
    """The recording without its first word, its first two, ..., written into ``out``; nothing where the pauses are not clearly seven."""
    samples = recording.load_audio()[0]
    before, *pauses = silences(samples, recording.sampling_rate)
    if len(pauses) != 7:
        return []
    cuts = []
    for word, pause in enumerate(pauses, 1):
        path = out / f"{recording.id}-{word}.wav"
        soundfile.write(path, np.concatenate([samples[:before], samples[pause:]]), recording.sampling_rate, subtype="PCM_16")
        cuts.append(whole(Recording.from_file(path), first_word=word))
    return cuts


def silences(samples: np.ndarray, rate: int) -> list[int]:
    """The middle samples of the silence before the first word and of the pauses between words."""
    size = int(STEP * rate)
    loudness = np.sqrt(np.mean(samples[: len(samples) // size * size].reshape(-1, size) ** 2, axis=1))
    loudness = np.convolve(loudness, np.full(5, 0.2), mode="same")
    loud = np.flatnonzero(loudness > 0.12 * np.percentile(loudness, 95))
    starts = np.concatenate([[0], loud])
    gaps = np.flatnonzero(np.diff(starts) > SHORTEST_PAUSE / STEP)
    return [int((starts[i] + starts[i + 1]) / 2 * size) for i in gaps]
