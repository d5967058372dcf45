"""What a corpus holds, before anything is changed about it: sizes, audio, speakers, scripts; and what is wrong with which utterance."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.data import Dropped
from asr.data.scripts import RIGHT_TO_LEFT, script
from asr.data.sources.base import SourceSplit

QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
SHOWN = 5
RARE = 3


@dataclass(frozen=True)
class Utterance:
    """As the corpus gives it. seconds: of audio; rate: its sampling rate in Hz; audio: which part of which file it is."""

    id: str
    split: str
    text: str
    seconds: float
    rate: int
    channels: int
    speaker: str | None
    audio: Hashable


@dataclass(frozen=True)
class Finding:
    """Something a person should know. what: in a few words; ids: of the utterances (or texts, or speakers); rule: what is done about it."""

    what: str
    ids: tuple[str, ...]
    rule: str

    def __str__(self) -> str:
        shown = ", ".join(self.ids[:SHOWN]) + (f" and {len(self.ids) - SHOWN} more" if len(self.ids) > SHOWN else "")
        return f"{len(self.ids)} {self.what}: {shown}. {self.rule}"


@dataclass(frozen=True)
class Survey:
    """utterances: with audio that could be opened. unusable: the others, with the reason."""

    utterances: tuple[Utterance, ...]
    unusable: tuple[Dropped, ...]

    @property
    def hours(self) -> float:
        return sum(utterance.seconds for utterance in self.utterances) / 3600

    def split_hours(self) -> dict[str, float]:
        """Hours of each of the corpus's own splits."""
        hours: dict[str, float] = defaultdict(float)
        for utterance in self.utterances:
            hours[utterance.split] += utterance.seconds / 3600
        return dict(hours)

    def speakers(self, split: str | None = None) -> frozenset[str]:
        return frozenset(u.speaker for u in self.utterances if u.speaker is not None and split in (None, u.split))

    @property
    def speakers_known(self) -> bool:
        return all(utterance.speaker is not None for utterance in self.utterances)

    def rates(self) -> Counter[int]:
        """Utterances by sampling rate."""
        return Counter(utterance.rate for utterance in self.utterances)


def survey(found: Mapping[str, SourceSplit]) -> Survey:
    """Raises ValueError where not one recording can be opened."""
    utterances = tuple(
        Utterance(cut.id, split, cut.supervisions[0].text or "", cut.duration, cut.sampling_rate, cut.recording.num_channels,
                  cut.supervisions[0].speaker, (str(cut.recording.sources[0].source), cut.start, cut.duration, cut.channel))
        for split, part in found.items() for cut in part.cuts
    )
    unusable = tuple(item for part in found.values() for item in part.dropped)
    if not utterances:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in unusable[:SHOWN])
        raise ValueError(f"not one of {len(unusable)} utterances can be used: {reasons or 'the corpus is empty'}")
    return Survey(utterances, unusable)


def counted_characters(texts: Iterable[str]) -> Counter[str]:
    """All characters but white space."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(text)
    return Counter({character: count for character, count in found.items() if not character.isspace()})


def scripts(texts: Iterable[str]) -> Counter[str]:
    """Letters by script."""
    found: Counter[str] = Counter()
    for character, count in counted_characters(texts).items():
        name = script(character)
        if name is not None:
            found[name] += count
    return found


def facts(survey: Survey) -> list[str]:
    """Lines that describe the corpus."""
    lengths = [utterance.seconds for utterance in survey.utterances]
    seconds = zip(QUANTILES, np.quantile(lengths, list(QUANTILES.values())))
    lines = [
        f"{len(survey.utterances)} utterances, {survey.hours:.2f} hours, "
        + (f"{len(survey.speakers())} speakers" if survey.speakers_known else f"speakers: {len(survey.speakers()) or 'none'} known"),
        "seconds of an utterance: " + ", ".join(f"{name} {value:.2f}" for name, value in seconds),
        "sampling rates: " + ", ".join(f"{rate} Hz ({count})" for rate, count in survey.rates().most_common()),
    ]
    for split, hours in survey.split_hours().items():
        count = sum(utterance.split == split for utterance in survey.utterances)
        speakers = len(survey.speakers(split))
        lines.append(f"split '{split}': {count} utterances, {hours:.2f} hours" + (f", {speakers} speakers" if speakers else ""))
    counted = scripts(utterance.text for utterance in survey.utterances)
    total = sum(counted.values()) or 1
    direction = dict.fromkeys(RIGHT_TO_LEFT, " (right to left)")
    named = [f"{name.title()}{direction.get(name, '')} {count / total:.1%}" for name, count in counted.most_common(8)]
    lines.append("scripts, by letters: " + (", ".join(named) or "there is not one letter"))
    characters = counted_characters(utterance.text for utterance in survey.utterances)
    rare = [character for character, count in characters.items() if count < RARE]
    lines.append(f"{len(characters)} different characters" + (f", {len(rare)} of them fewer than {RARE} times" if rare else ""))
    return lines


def unusable_findings(unusable: Sequence[Dropped]) -> list[Finding]:
    """By kind of reason, as stage 1 will list them."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for item in unusable:
        kinds[item.reason.partition(":")[0].partition(" (")[0]].append(item.id)
    return [Finding(f"without use ({kind})", tuple(ids), "Stage 1 drops them.") for kind, ids in kinds.items()]


def corpus_findings(survey: Survey) -> list[Finding]:
    """What is odd about ids, audio and speakers; texts are looked at by asr/recipe/text_rules.py."""
    many = [u.id for u in survey.utterances if u.channels > 1]
    found = [
        Finding("repeated ids", _later(survey, lambda u: u.id), "Stage 1 keeps the first of each."),
        Finding("utterances of the same audio as another", _later(survey, lambda u: u.audio), "Stage 1 keeps the first of each."),
        Finding("empty transcripts", tuple(u.id for u in survey.utterances if not u.text.strip()), "Stage 1 drops them."),
        Finding("recordings with several channels", tuple(many), "Only the channel that the corpus names is read, by default the first."),
        _repeated_texts(survey),
        *_shared_speakers(survey),
    ]
    return [finding for finding in found if finding.ids]


def _later(survey: Survey, key: Any) -> tuple[str, ...]:
    """Ids of the utterances whose key an earlier one has."""
    seen: set[Hashable] = set()
    later = []
    for utterance in survey.utterances:
        value = key(utterance)
        if value in seen:
            later.append(utterance.id)
        seen.add(value)
    return tuple(later)


def _repeated_texts(survey: Survey) -> Finding:
    ids: dict[str, list[str]] = defaultdict(list)
    for utterance in survey.utterances:
        ids[" ".join(utterance.text.split())].append(utterance.id)
    repeated = sorted((group for text, group in ids.items() if text and len(group) > 1), key=len, reverse=True)
    return Finding("utterances say what another says too", tuple(id for group in repeated for id in group),
                   "They are kept; where one is in the test set and the other in training, the test flatters.")


def _shared_speakers(survey: Survey) -> list[Finding]:
    splits = list(survey.split_hours())
    pairs = ((a, b) for place, a in enumerate(splits) for b in splits[place + 1:])
    return [
        Finding(f"speakers are both in '{a}' and in '{b}'", tuple(sorted(common)), "See the choice of splits.")
        for a, b in pairs if (common := survey.speakers(a) & survey.speakers(b))
    ]
