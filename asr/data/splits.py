"""From the splits a corpus comes with to those of an experiment: filtered, cut to a range, or held out of others."""
from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal, Mapping, Sequence

from pydantic import ConfigDict, Field, model_validator

from asr.config import Config as BaseConfig

if TYPE_CHECKING:
    from lhotse.cut import MonoCut


class Condition(BaseConfig):
    """What a field of an utterance must fulfil; every bound given must hold. ``min`` and ``max`` are inclusive."""

    min: float | None = None
    max: float | None = None
    below: float | None = None
    one_of: tuple[str | int | float, ...] | None = None

    def holds(self, value: Any) -> bool:
        return (
            (self.min is None or value >= self.min)
            and (self.max is None or value <= self.max)
            and (self.below is None or value < self.below)
            and (self.one_of is None or value in self.one_of)
        )


class SplitConfig(BaseConfig):
    """Which utterances make up a split. ``train: train`` is short for ``train: {from: [train]}``.

    from: the corpus's own splits that it draws from.
    where: conditions on fields: ``speaker``, ``gender``, ``language``, ``duration``, or any other that the corpus gives
        (``age``); a plain value must be equal, e.g. ``{age: {min: 18}, gender: f}``.
    range: of what is left, sorted by id, only those from the first number (counted from 0) up to but without the second.
    fraction: of what is left, a random part of about this size, which every split without a fraction then goes without.
    by: hold out whole speakers, or single utterances wherever they come from.
    seed: of the random choice.
    """

    model_config = ConfigDict(serialize_by_alias=True, populate_by_name=True)

    sources: tuple[str, ...] = Field(alias="from", min_length=1)
    where: dict[str, Condition | str | int | float] = {}
    range: tuple[int, int] | None = None
    fraction: float | None = Field(default=None, gt=0, lt=1)
    by: Literal["speaker", "utterance"] = "speaker"
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        if isinstance(values, str):
            return {"from": (values,)}
        if isinstance(values, dict) and isinstance(values.get("from"), str):
            return {**values, "from": (values["from"],)}
        return values


def derive(configs: Mapping[str, SplitConfig], pools: Mapping[str, Sequence["MonoCut"]]) -> dict[str, list["MonoCut"]]:
    """The cuts of every configured split, sorted by id. ``pools``: the cuts of each split of the corpus.

    Splits with a fraction choose first, in the order of the config, none of them what another has.
    Raises ValueError for a condition on a field that an utterance lacks, and for a split that ends empty.
    """
    splits: dict[str, list["MonoCut"]] = {}
    held_out: set[str] = set()
    for name in sorted(configs, key=lambda name: configs[name].fraction is None):
        config = configs[name]
        pool = [cut for source in config.sources for cut in pools[source] if cut.id not in held_out]
        chosen = sorted((cut for cut in pool if _matches(cut, config, name)), key=lambda cut: cut.id)
        if config.range is not None:
            chosen = chosen[slice(*config.range)]
        if config.fraction is not None:
            chosen = _hold_out(chosen, config, name)
            held_out.update(cut.id for cut in chosen)
        if not chosen:
            total = sum(len(pools[source]) for source in config.sources)
            raise ValueError(f"split '{name}' is empty: nothing is left of {', '.join(config.sources)} ({total} utterances; "
                             f"{len(held_out)} of the corpus are held out for other splits); check corpus.splits.{name}")
        splits[name] = chosen
    return {name: splits[name] for name in configs}


def _matches(cut: "MonoCut", config: SplitConfig, split: str) -> bool:
    for key, condition in config.where.items():
        value = field(cut, key)
        if value is None:
            known = sorted({"speaker", "gender", "language", "duration", *(cut.supervisions[0].custom or {})})
            raise ValueError(f"split '{split}': utterance '{cut.id}' has no '{key}'; its fields are {', '.join(known)}")
        if not (condition.holds(value) if isinstance(condition, Condition) else value == condition):
            return False
    return True


def field(cut: "MonoCut", key: str) -> Any:
    """A field of an utterance by name, or None where the corpus does not give it."""
    supervision = cut.supervisions[0]
    if key == "duration":
        return cut.duration
    if key in ("speaker", "gender", "language"):
        return getattr(supervision, key)
    return (supervision.custom or {}).get(key)


def _hold_out(cuts: Sequence["MonoCut"], config: SplitConfig, split: str) -> list["MonoCut"]:
    """Random groups (speakers or single utterances) until they make up the fraction of the utterances; never all of them."""
    assert config.fraction is not None
    groups: dict[str, list["MonoCut"]] = {}
    for cut in cuts:
        group = cut.id if config.by == "utterance" else cut.supervisions[0].speaker
        if group is None:
            raise ValueError(f"split '{split}': utterance '{cut.id}' has no speaker to hold out; set corpus.splits.{split}.by: utterance")
        groups.setdefault(group, []).append(cut)
    if len(groups) < 2:
        raise ValueError(f"split '{split}': {len(groups)} {config.by}(s) to choose from, at least 2 are needed"
                         + (f"; set corpus.splits.{split}.by: utterance" if config.by == "speaker" else ""))
    names = sorted(groups)
    random.Random(config.seed).shuffle(names)
    chosen: list["MonoCut"] = []
    for name in names[:-1]:
        if len(chosen) >= config.fraction * len(cuts):
            break
        chosen.extend(groups[name])
    return sorted(chosen, key=lambda cut: cut.id)
