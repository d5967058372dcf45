"""What a new recipe's config says, and why: splits, limits, tokens, model and training, by rules that are stated with each choice."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from asr.config import validate
from asr.data.corpus import CorpusConfig, sift_corpus
from asr.data.manifests import Dropped, Transcript, summary
from asr.data.sources.base import SourceSplit
from asr.data.splits import SplitConfig, derive
from asr.data.statistics import UNUSUAL, rate
from asr.recipe.layout import CorpusLayout, role
from asr.recipe.survey import Finding, Survey
from asr.recipe.text_rules import TextRules

HELD_OUT = 0.1
HELD_OUT_HOURS = 5.0
"""dev and test each get a tenth of the corpus, but no more hours than this."""

MIN_SPEAKERS = 5
SPLIT_SEEDS = 50
LONGEST = 40.0
USUAL_LONGEST = 30.0
SLOWEST, FASTEST = 4.0, 2.5
"""How many times slower (pauses) and faster than the median speech may be before its text is taken for that of other audio."""

FRAMES_PER_SECOND = 25
CACHED_HOURS = 17.0
"""At 115 MB an hour, two gigabytes."""

CHARACTERS_BELOW = 20.0
"""Hours of training up to which characters are the tokens."""

BPE_SIZE = 500
MANY_CHARACTERS = 300
"""With so many different ones, each is a syllable or a word, and a token of its own."""


@dataclass(frozen=True)
class Choice:
    """A key of the config, its value, and why."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Size:
    """A model and its training for corpora of less than ``hours``; seconds: of audio in a batch."""

    hours: float
    dim: int
    layers: int
    feedforward: int
    kernel: int
    channels: int
    joiner: int
    seconds: int
    lr: float
    audio_hours: float
    device: str


SIZES = (
    Size(10, 144, 3, 288, 15, 16, 128, 20, 0.002, 60, "two CPU cores"),
    Size(50, 256, 8, 1024, 31, 64, 256, 120, 0.001, 1000, "one GPU"),
    Size(500, 256, 12, 1024, 31, 128, 512, 300, 0.001, 5000, "one GPU"),
    Size(math.inf, 512, 12, 2048, 31, 128, 512, 600, 0.0007, 20000, "eight GPUs"),
)
"""The first is what egs/numbers and egs/speechocean762 were tuned to; the others are starting points. audio_hours: to train on in all."""

FEWEST_EPOCHS, MOST_EPOCHS = 15, 80

START = "../numbers/exp/conformer"
"""Of the first size; relative to the recipe."""


@dataclass
class Choices:
    """choices: in the order of the config. tests: names of the test sets. splits: transcripts of the splits, as stage 1 will make them."""

    choices: list[Choice] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    splits: dict[str, list[Transcript]] = field(default_factory=dict)

    def add(self, key: str, value: Any, why: str) -> None:
        self.choices.append(Choice(key, value, why))

    def value(self, key: str) -> Any:
        return next(choice.value for choice in self.choices if choice.key == key)


def choose(
    layout: CorpusLayout, found: Mapping[str, SourceSplit], survey: Survey, rules: TextRules, start: str | None = None
) -> Choices:
    """``found``: what ``layout.source`` has read; its transcripts become normalised. start: a trained model of the smallest size."""
    chosen = Choices()
    chosen.add("corpus.source", layout.source, layout.why)
    limits = Choices()
    _choose_text(limits, rules)
    _choose_audio(limits, survey)
    pools, dropped = _sifted(layout, found, limits)
    if not any(pools.values()):
        raise ValueError(f"{layout.corpus_dir}: not one of its utterances is usable:\n{summary(dropped)}")
    if _choose_rates(limits, pools):
        pools, dropped = _sifted(layout, found, limits)
    _choose_splits(chosen, survey, pools)
    chosen.choices += limits.choices
    chosen.findings += limits.findings
    _choose_max_dropped(chosen, found, dropped)
    _check_overlap(chosen)
    hours = sum(item.duration for item in chosen.splits["train"]) / 3600
    if chosen.value("corpus.sample_rate") != 16000:
        chosen.add("features.sample_rate", chosen.value("corpus.sample_rate"), "the corpus's")
    choose_tokens(chosen, hours)
    choose_model(chosen, hours, start)
    return chosen


def _choose_text(chosen: Choices, rules: TextRules) -> None:
    for key in ("html", "unicode", "replace", "case", "remove", "keep", "keep_inside", "characters_as_words"):
        if key in rules.settings:
            chosen.add(f"corpus.text.{key}", rules.settings[key], rules.reasons[key])
    if rules.forbidden:
        chosen.add("corpus.forbidden", rules.forbidden, "letters that were lost: texts with them are dropped")


def _choose_audio(chosen: Choices, survey: Survey) -> None:
    rates = survey.rates()
    common, count = rates.most_common(1)[0]
    wide = sum(number for rate, number in rates.items() if rate >= 16000) >= len(survey.utterances) / 2
    rate = 16000 if wide else common
    chosen.add("corpus.sample_rate", rate, "the usual one for speech" if wide else f"the most common one here ({count} utterances)")
    others = {other: number for other, number in rates.items() if other != rate}
    if others:
        shown = ", ".join(f"{number} at {other} Hz" for other, number in sorted(others.items()))
        chosen.add("corpus.resample", True, f"{shown} are converted to {rate} Hz when they are read")
    seconds = [utterance.seconds for utterance in survey.utterances]
    longest = USUAL_LONGEST
    if sum(value for value in seconds if value > longest) > 0.01 * sum(seconds):
        longest = LONGEST
    beyond = sum(value > longest for value in seconds)
    chosen.add("corpus.max_duration", longest, f"seconds; {beyond} of {len(seconds)} utterances are longer and are dropped: what attention "
               "costs grows with the square")


def _sifted(layout: CorpusLayout, found: Mapping[str, SourceSplit], limits: Choices) -> tuple[dict[str, list[Any]], list[Dropped]]:
    """What stage 1 will keep and drop, without decoding any audio."""
    values: dict[str, Any] = {"source": layout.source, "splits": {"all": sorted(found)}, "text": {}}
    values["splits"] = {"all": {"from": sorted(found)}}
    for choice in limits.choices:
        key = choice.key.removeprefix("corpus.")
        if key.startswith("text."):
            values["text"][key.removeprefix("text.")] = choice.value
        else:
            values[key] = choice.value
    dropped = [item for part in found.values() for item in part.dropped]
    config = validate(CorpusConfig, values, where="the proposed config")
    return sift_corpus(config, {name: part.cuts for name, part in found.items()}, dropped), dropped


def _transcripts(cuts: Sequence[Any]) -> list[Transcript]:
    return [Transcript(cut.id, cut.supervisions[0].text, cut.supervisions[0].speaker, cut.duration) for cut in cuts]


def _choose_rates(chosen: Choices, pools: Mapping[str, Sequence[Any]]) -> bool:
    """Limits of the speaking rate, where utterances lie outside them."""
    transcripts = [item for cuts in pools.values() for item in _transcripts(cuts)]
    logs = np.log([rate(item) for item in transcripts])
    median = float(np.median(logs))
    spread = UNUSUAL * 1.4826 * float(np.median(np.abs(logs - median)))
    lowest, highest = (math.exp(median - max(spread, math.log(SLOWEST))), math.exp(median + max(spread, math.log(FASTEST))))
    lowest, highest = _rounded(lowest), _rounded(highest)
    slow = tuple(item.id for item in transcripts if rate(item) < lowest)
    fast = tuple(item.id for item in transcripts if rate(item) > highest)
    limits = "Stage 1 drops them"
    usual = f"characters per second, the median is {math.exp(median):.1f}"
    if slow:
        chosen.add("corpus.min_rate", lowest, f"{usual}: {len(slow)} utterances have far too little text for their audio")
        chosen.findings.append(Finding(f"utterances with less than {lowest:g} characters per second", slow, f"{limits} (min_rate)."))
    if fast:
        chosen.add("corpus.max_rate", highest, f"{usual}: {len(fast)} utterances have more text than could be said in the time")
        chosen.findings.append(Finding(f"utterances with more than {highest:g} characters per second", fast, f"{limits} (max_rate)."))
    return bool(slow or fast)


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


# ---------------------------------------------------------------- splits


def _choose_splits(chosen: Choices, survey: Survey, pools: Mapping[str, Sequence[Any]]) -> None:
    roles = {split: role(split) for split in pools}
    by_role = {name: sorted(split for split in pools if roles[split] == name and pools[split]) for name in ("train", "dev", "test")}
    reason = _own_splits_fault(survey, by_role)
    usable = {name: list(cuts) for name, cuts in pools.items()}
    if reason is None:
        configs, why = _own_splits(by_role, usable)
        unused = sorted(split for split in pools if roles[split] is None)
        if unused:
            why["train"] += f"; not used, since it is not known what for: {', '.join(unused)}"
    else:
        names = sorted(pools)
        configs, why = _held_out(usable, names, names, ("dev", "test"))
        whole: dict[str, Any] = {"from": names} if len(names) > 1 else {"from": names[0]}
        configs["train"] = names[0] if len(names) == 1 else whole
        why["train"] = f"{reason}, so dev and test are taken out of all of it"
    order = ["train", "dev", *(name for name in configs if name not in ("train", "dev"))]
    for name in order:
        chosen.add(f"corpus.splits.{name}", configs[name], why[name])
    chosen.tests = order[2:]
    derived = derive({name: SplitConfig.model_validate(configs[name]) for name in order}, usable)
    chosen.splits = {name: _transcripts(cuts) for name, cuts in derived.items()}


def _own_splits_fault(survey: Survey, by_role: Mapping[str, Sequence[str]]) -> str | None:
    """Why the corpus's own splits are not used, or None."""
    if not by_role["train"] or not by_role["test"]:
        return "the corpus has no training and test sets of its own"
    hours = survey.split_hours()
    share = sum(hours[split] for split in by_role["train"]) / sum(hours.values())
    if share < 0.5:
        return f"the corpus's own training set is only {share:.0%} of it"
    speakers = {name: frozenset().union(*(survey.speakers(split) for split in splits)) for name, splits in by_role.items()}
    shared = speakers["train"] & (speakers["dev"] | speakers["test"])
    if shared and len(survey.speakers()) >= MIN_SPEAKERS:
        return f"the corpus's own training set shares {len(shared)} speakers with its dev and test sets"
    return None


def _own_splits(by_role: Mapping[str, Sequence[str]], pools: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    def drawn(splits: Sequence[str]) -> Any:
        return splits[0] if len(splits) == 1 else {"from": list(splits)}

    configs: dict[str, Any] = {"train": drawn(by_role["train"])}
    why = {"train": "the corpus's own"}
    if by_role["dev"]:
        configs["dev"], why["dev"] = drawn(by_role["dev"]), "the corpus's own"
    else:
        held, reasons = _held_out(pools, by_role["train"], by_role["train"], ("dev",))
        configs.update(held)
        why.update(reasons)
    for split in by_role["test"]:
        name = "test" if len(by_role["test"]) == 1 else "".join(c if c.isalnum() else "_" for c in split)
        configs[name], why[name] = split, "the corpus's own"
    return configs, why


def _held_out(
    pools: Mapping[str, Sequence[Any]], source: Sequence[str], names: Sequence[str], wanted: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Splits that are random parts of ``source``: whole speakers where that gives parts of about the right size."""
    cuts = [cut for split in source for cut in pools[split]]
    hours = sum(cut.duration for cut in cuts) / 3600
    fraction = round(min(HELD_OUT, HELD_OUT_HOURS / hours), 3)
    drawn: Any = names[0] if len(names) == 1 else list(names)
    speakers = {cut.supervisions[0].speaker for cut in cuts}
    if None in speakers:
        obstacle = "speakers are not known"
    elif len(speakers) < MIN_SPEAKERS:
        obstacle = f"there are only {len(speakers)} speakers"
    else:
        for seed in range(SPLIT_SEEDS):
            configs = _fractions(wanted, drawn, fraction, "speaker", seed)
            if _sizes_fit(configs, pools, names, fraction * hours):
                why = f"about {fraction:.1%} of {hours:.1f} hours: whole speakers, none of them in another split"
                return configs, dict.fromkeys(wanted, why)
        obstacle = f"no choice among {SPLIT_SEEDS} of whole speakers gave parts of about the right size"
    configs = _fractions(wanted, drawn, fraction, "utterance", 0)
    why = f"about {fraction:.1%} of {hours:.1f} hours: single utterances, since {obstacle}: the speakers of the test are heard in training"
    return configs, dict.fromkeys(wanted, why)


def _fractions(wanted: Sequence[str], drawn: Any, fraction: float, by: str, seed: int) -> dict[str, Any]:
    return {name: {"from": drawn, "fraction": fraction, "by": by, "seed": seed + place} for place, name in enumerate(wanted)}


def _sizes_fit(configs: Mapping[str, Any], pools: Mapping[str, Sequence[Any]], names: Sequence[str], hours: float) -> bool:
    parsed = {name: SplitConfig.model_validate(values) for name, values in {**configs, "rest": {"from": list(names)}}.items()}
    derived = derive(parsed, pools)
    return all(0.5 * hours <= sum(cut.duration for cut in derived[name]) / 3600 <= 2 * hours for name in configs)


def _choose_max_dropped(chosen: Choices, found: Mapping[str, SourceSplit], dropped: Sequence[Dropped]) -> None:
    totals = {name: len(part.cuts) + len(part.dropped) for name, part in found.items()}
    lost = max(sum(item.split == name for item in dropped) / total for name, total in totals.items() if total)
    if lost > 0.05:
        chosen.add("corpus.max_dropped", min(1.0, math.ceil(100 * lost + 1) / 100),
                   f"{lost:.1%} of one of the corpus's splits will be dropped, for the reasons in README.md; the default allows 5 %")


def _check_overlap(chosen: Choices) -> None:
    seen = {item.text for item in chosen.splits["train"]}
    for name in chosen.tests:
        known = tuple(item.id for item in chosen.splits[name] if item.text in seen)
        if known:
            share = len(known) / len(chosen.splits[name])
            chosen.findings.append(Finding(f"utterances of {name} ({share:.0%}) whose text is in the training set too", known,
                                           "They are kept: know it when you read the error rate."))


# ---------------------------------------------------------------- tokens, model, training


def choose_tokens(chosen: Choices, hours: float) -> None:
    texts = [item.text for item in chosen.splits["train"]]
    characters = {character for text in texts for character in text if not character.isspace()}
    apart = any(choice.key == "corpus.text.characters_as_words" for choice in chosen.choices)
    value: dict[str, Any]
    if apart:
        value, why = {"type": "char", "boundary": "attached"}, f"{len(characters)} characters of a script without spaces are a token each"
    elif len(characters) >= MANY_CHARACTERS:
        value, why = {"type": "char"}, f"{len(characters)} different characters: each is a syllable or more already"
    elif hours < CHARACTERS_BELOW:
        value, why = {"type": "char"}, f"{hours:.1f} hours teach {len(characters)} characters well, and pieces of words poorly"
    else:
        size = max(BPE_SIZE, 100 * math.ceil(3 * len(characters) / 100))
        value, why = {"type": "bpe", "vocab_size": size}, f"{hours:.0f} hours teach pieces of words; there are {len(characters)} characters"
    chosen.add("tokens", value, why)
    if value["type"] == "char":
        tight = tuple(item.id for item in chosen.splits["train"] if len(item.text) + 1 > FRAMES_PER_SECOND * item.duration)
        if tight:
            chosen.findings.append(Finding("training utterances with more characters than the encoder has frames", tight,
                                           "Training leaves them out, and lists them in problems.jsonl."))


def choose_model(chosen: Choices, hours: float, start: str | None = None) -> None:
    size = next(size for size in SIZES if hours < size.hours)
    known = size is SIZES[0]
    if known and start is not None:
        size = replace(size, lr=size.lr / 2, audio_hours=size.audio_hours / 2)
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(size.audio_hours / hours)))
    steps = max(1, round(epochs * hours * 3600 / size.seconds))
    chosen.add("ngram", {"order": 3}, "of words, from the training transcripts; 'text: [FILE]' adds more sentences")
    encoder = {"type": "conformer", "dim": size.dim, "layers": size.layers, "heads": 4, "feedforward": size.feedforward,
               "kernel": size.kernel, "dropout": 0.1, "subsampling": {"channels": size.channels}}
    chosen.add("model.encoder", encoder, f"for {hours:.1f} hours of training, on {size.device}"
               + ("; found good on corpora of this size" if known else ": a starting point"))
    chosen.add("model.predictor", {"type": "stateless", "dim": size.joiner}, "")
    chosen.add("model.joiner", {"dim": size.joiner}, "")
    chosen.add("model.ctc", {}, "a head for the CTC loss, and for the searches over HLG")
    chosen.add("losses.rnnt", {"type": "pruned_rnnt", "range": 5, "warmup_steps": _one_digit(min(2000, 0.1 * steps))}, "")
    chosen.add("losses.ctc", {"type": "ctc"}, "")
    if known:
        chosen.add("train.init_from", start, "a model of this shape, which knows sounds, if not these words; from random weights little "
                   "speech in long utterances may teach nothing" if start else "from random weights little speech in long utterances may "
                   f"teach nothing: 'make demo' (a quarter of an hour) trains {START}, from which recipes written afterwards start")
    chosen.add("train.epochs", epochs, f"about {epochs * hours:.0f} hours of audio and {steps} steps in all")
    chosen.add("train.optimizer", {"type": "adamw", "lr": size.lr}, "")
    chosen.add("train.schedule", {"type": "cosine", "warmup_steps": _one_digit(min(2000, 0.02 * steps))}, "")
    chosen.add("train.batches.max_duration", size.seconds, "seconds: small batches are many steps, which a small corpus needs"
               if known else "seconds: as large as memory allows")
    cached = hours * 115 / 1000
    if hours <= CACHED_HOURS:
        chosen.add("train.batches.cache", True, f"all features are about {cached:.1f} GB of memory")
    masks = {"frequency_masks": 2, "frequency_width": 12, "time_masks": 2, "time_width": 15} if known else {}
    chosen.add("train.batches.spec_augment", masks, "")
    if size.device.endswith("cores"):
        chosen.add("train.threads", 1, "more gain little at this size, and lose much where the cores are shared")


def _one_digit(value: float) -> int:
    return max(1, round(float(f"{value:.1g}")))
