"""What is in the manifests: sizes, lengths, characters, and what looks wrong."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from asr.data.manifests import Transcript

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
UNUSUAL = 4.0
"""How many robust standard deviations from the median a speaking rate may be."""


@dataclass(frozen=True)
class SplitStatistics:
    """seconds: quantiles of the durations, as in QUANTILES. characters: how often each occurs, spaces not counted.
    unusual: utterances whose logarithm of characters per second is far from the median, the furthest first.
    """

    utterances: int
    hours: float
    words: int
    speakers: frozenset[str]
    seconds: tuple[float, ...]
    characters: Mapping[str, int]
    unusual: tuple[Transcript, ...]


def statistics(transcripts: Sequence[Transcript]) -> SplitStatistics:
    durations = [item.duration for item in transcripts]
    return SplitStatistics(
        utterances=len(transcripts), hours=sum(durations) / 3600, words=sum(len(item.text.split()) for item in transcripts),
        speakers=frozenset(item.speaker for item in transcripts if item.speaker is not None),
        seconds=tuple(float(q) for q in np.quantile(durations, QUANTILES)),
        characters=Counter("".join("".join(item.text.split()) for item in transcripts)), unusual=tuple(unusual_rates(transcripts)),
    )


def rate(item: Transcript) -> float:
    """Characters per second."""
    return len(item.text) / item.duration


def unusual_rates(transcripts: Sequence[Transcript]) -> list[Transcript]:
    """Wrong transcripts and badly cut audio stand out by their speaking rate. Scale: median absolute deviation (Hampel, 1974)."""
    logs = np.log([rate(item) for item in transcripts])
    distances = np.abs(logs - np.median(logs))
    scale = 1.4826 * float(np.median(distances)) or 1.0
    order = np.argsort(-distances, kind="stable")
    return [transcripts[k] for k in order if distances[k] > UNUSUAL * scale]


def shared_speakers(splits: Mapping[str, SplitStatistics]) -> dict[tuple[str, str], frozenset[str]]:
    """Speakers that two splits have in common, by the pair of splits' names."""
    names = list(splits)
    pairs = ((a, b) for k, a in enumerate(names) for b in names[k + 1:])
    return {pair: common for pair in pairs if (common := splits[pair[0]].speakers & splits[pair[1]].speakers)}
