"""Parts of long recordings: their features piece by piece, and the cuts that become utterances."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
from torch import Tensor

from asr.data.loader import waveform
from asr.features import FEATURES, Fbank
from asr.features.vad import SHIFT, Region, VadRules, levels, speech

if TYPE_CHECKING:
    from lhotse import Recording
    from lhotse.cut import MonoCut


BLOCK = 60.0
"""Seconds of audio in memory."""


def speech_regions(cut: "MonoCut", rules: VadRules) -> list[Region]:
    """Where somebody speaks in a cut of any length, in seconds from its start."""
    found = []
    for start in np.arange(0, cut.duration - SHIFT, BLOCK).tolist():
        samples: Any = cut.truncate(offset=start, duration=min(BLOCK, cut.duration - start)).load_audio()
        found.append(levels(samples[0], cut.sampling_rate))
    return speech(np.concatenate(found), rules) if found else []


def speech_features(cut: "MonoCut", config: Fbank.Config, rules: VadRules) -> Iterator[tuple[float, Tensor]]:
    """Start (seconds) and features (T, F) of each part in which somebody speaks; all of the cut where that cannot be told."""
    extract = FEATURES[config.type](config)
    for region in speech_regions(cut, rules) or [Region(0.0, cut.duration)]:
        part: Any = cut.truncate(offset=region.start, duration=min(region.end, cut.duration) - region.start)
        yield region.start, extract(waveform(part, config.sample_rate))


def part_of(cut: "MonoCut", start: float, end: float, text: str, **fields: Any) -> "MonoCut":
    """An utterance from ``start`` to ``end`` seconds of a cut, with its speaker; ``fields`` are kept with it.

    Its id is the cut's, with the times in hundredths of a second.
    """
    from lhotse.utils import fastcopy

    duration = round(min(end, cut.duration) - start, 8)
    id = f"{cut.id}-{round(100 * start):07d}-{round(100 * end):07d}"
    supervision = fastcopy(
        cut.supervisions[0], id=id, start=0.0, duration=duration, text=text,
        custom={**(cut.supervisions[0].custom or {}), **fields} or None, alignment=None,
    )
    return fastcopy(cut, id=id, start=round(cut.start + start, 8), duration=duration, supervisions=[supervision], features=None)


def spoken_parts(recording: "Recording", sample_rate: int, rules: VadRules) -> "Iterator[MonoCut]":
    """The parts of a recording (its first channel, at ``sample_rate``) in which somebody speaks, as utterances without text."""
    from lhotse import MonoCut, SupervisionSegment

    channel = recording.channel_ids[0]
    if recording.sampling_rate != sample_rate:
        recording = recording.resample(sample_rate)
    whole = SupervisionSegment(recording.id, recording.id, 0.0, recording.duration, channel=channel, text="")
    cut = MonoCut(recording.id, 0.0, recording.duration, channel, recording=recording, supervisions=[whole])
    for region in speech_regions(cut, rules):
        yield part_of(cut, region.start, region.end, text="")
