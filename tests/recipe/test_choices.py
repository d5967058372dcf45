"""Little corpora with one defect each, and what the recipe's config does about it."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.config import validate
from asr.data import Transcript, prepare_corpus, read_dropped
from asr.data.corpus import CorpusConfig
from asr.experiment import ExperimentConfig
from asr.recipe import Hints, Proposal, look_at
from asr.recipe.choices import SIZES, Choices, choose_model, choose_tokens
from tests.data.corpora import write_wav
from tests.recipe.corpora import Row, in_splits, rows, table


def look(directory: Path, rows: Sequence[Row]) -> Proposal:
    table(directory, rows)
    return look_at(directory, Hints())


def config(chosen: Choices, section: str = "") -> dict[str, Any]:
    """The values below a section, nested."""
    values: dict[str, Any] = {}
    for choice in chosen.choices:
        *path, last = choice.key.split(".")
        node = values
        for name in path:
            node = node.setdefault(name, {})
        node[last] = choice.value
    return values[section] if section else values


def ids(proposal: Proposal, what: str) -> tuple[str, ...]:
    found = [finding.ids for finding in proposal.findings if what in finding.what]
    assert len(found) == 1, [finding.what for finding in proposal.findings]
    return found[0]


def dropped(proposal: Proposal, tmp_path: Path) -> dict[str, str]:
    """What stage 1 really drops, with the kind of reason. The splits must come out as forecast."""
    prepare_corpus(validate(CorpusConfig, config(proposal.chosen, "corpus"), "test"), proposal.layout.corpus_dir, tmp_path / "manifests")
    return {item.id: item.reason.partition(":")[0] for item in read_dropped(tmp_path / "manifests/dropped.jsonl")}


# ---------------------------------------------------------------- defects


def test_missing_empty_and_repeated(tmp_path: Path) -> None:
    corpus, listed = tmp_path / "corpus", rows()
    listed[4] = replace(listed[4], text=" ")
    listed[6] = replace(listed[6], id="u05")
    table(corpus, listed)
    (corpus / "wav/s2/u08.wav").unlink()
    (corpus / "wav/s3/u09.wav").write_bytes(b"")
    (corpus / "wav/s3/u10.wav").write_bytes(b"RIFF and nothing else")
    lines = (corpus / "list.tsv").read_text().splitlines()
    lines[12] = lines[12].replace("u11.wav", "u12.wav").replace("s3/", "s4/")
    (corpus / "list.tsv").write_text("\n".join([*lines, ""]))
    proposal = look_at(corpus, Hints())
    assert ids(proposal, "no such audio file") == ("u08",) and ids(proposal, "empty audio file") == ("u09",)
    assert ids(proposal, "unreadable audio") == ("u10",)
    assert ids(proposal, "empty transcripts") == ("u04",) and ids(proposal, "repeated ids") == ("u05",)
    assert ids(proposal, "same audio as another") == ("u05", "u12")
    assert proposal.chosen.value("corpus.max_dropped") >= 6 / 24
    assert dropped(proposal, tmp_path) == {
        "u04": "empty transcript", "u05": "duplicate id", "u08": "no such audio file", "u09": "empty audio file", "u10": "unreadable audio",
        "u12": "duplicate audio"}


def test_mixed_rates_and_channels(tmp_path: Path) -> None:
    table(tmp_path, rows())
    write_wav(tmp_path / "wav/s0/u00.wav", 0.5, rate=8000)
    write_wav(tmp_path / "wav/s0/u01.wav", 0.5, rate=44100)
    soundfile.write(tmp_path / "wav/s0/u02.wav", np.zeros((8000, 2)), 16000)
    proposal = look_at(tmp_path, Hints())
    assert "sampling rates: 16000 Hz (22), 8000 Hz (1), 44100 Hz (1)" in proposal.facts
    assert proposal.chosen.value("corpus.resample") is True and proposal.chosen.value("corpus.sample_rate") == 16000
    assert ids(proposal, "several channels") == ("u02",)


def test_telephone_speech_stays_what_it_is(tmp_path: Path) -> None:
    table(tmp_path, rows(8))
    for path in tmp_path.rglob("*.wav"):
        write_wav(path, 0.5, rate=8000)
    chosen = look_at(tmp_path, Hints()).chosen
    assert chosen.value("corpus.sample_rate") == chosen.value("features.sample_rate") == 8000
    assert not any(choice.key == "corpus.resample" for choice in chosen.choices)


def test_texts_that_do_not_fit_their_audio(tmp_path: Path) -> None:
    listed = rows(40)
    listed[3] = replace(listed[3], text="na", seconds=3.0)
    listed[5] = replace(listed[5], text=" ".join([listed[5].text] * 9))
    proposal = look(tmp_path / "corpus", listed)
    assert [finding.ids for finding in proposal.findings if "characters per second" in finding.what] == [("u03",), ("u05",)]
    assert dropped(proposal, tmp_path) == {"u03": "too little text for its audio", "u05": "too much text for its audio"}


def test_long_utterances(tmp_path: Path) -> None:
    listed = [replace(row, text=" ".join([row.text] * 40), seconds=20.0) for row in rows(4)]
    short = look(tmp_path / "short", listed).chosen
    assert short.value("corpus.max_duration") == 30
    listed[0], listed[1] = replace(listed[0], seconds=33.0), replace(listed[1], seconds=41.0)
    proposal = look(tmp_path / "long", listed)
    assert proposal.chosen.value("corpus.max_duration") == 40 and proposal.chosen.value("corpus.max_dropped") >= 0.25
    assert dropped(proposal, tmp_path) == {"u01": "too long"}


def test_texts_without_letters_that_survive(tmp_path: Path) -> None:
    listed = rows()
    listed[2] = replace(listed[2], text=listed[2].text + " \ufffd")
    proposal = look(tmp_path / "corpus", listed)
    assert ids(proposal, "U+FFFD") == ("u02",)
    assert dropped(proposal, tmp_path) == {"u02": "forbidden characters"}


def test_more_characters_than_frames(tmp_path: Path) -> None:
    listed = [replace(row, text=row.text * 3) for row in rows()]
    proposal = look(tmp_path, listed)
    assert len(ids(proposal, "more characters than the encoder has frames")) == len(proposal.chosen.splits["train"])


def test_nothing_usable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not one of its utterances is usable:\n +4  empty transcript: u00, u01"):
        look(tmp_path, [replace(row, text="...") for row in rows(4)])


# ---------------------------------------------------------------- splits


def speakers(chosen: Choices) -> dict[str, set[str | None]]:
    return {name: {item.speaker for item in items} for name, items in chosen.splits.items()}


def test_new_splits_share_no_speaker(tmp_path: Path) -> None:
    chosen = look(tmp_path, rows(40, speakers=20)).chosen
    assert config(chosen, "corpus")["splits"]["dev"]["by"] == "speaker"
    parts = list(speakers(chosen).values())
    assert set.union(*parts) == {f"s{k}" for k in range(20)} and sum(map(len, parts)) == 20
    assert all(2 <= len(chosen.splits[name]) <= 8 for name in ("dev", "test"))


@pytest.mark.parametrize("count, reason", [(1, "only 1 speakers"), (4, "only 4 speakers")])
def test_few_speakers_are_shared(tmp_path: Path, count: int, reason: str) -> None:
    chosen = look(tmp_path, rows(20, speakers=count)).chosen
    assert config(chosen, "corpus")["splits"]["test"]["by"] == "utterance"
    assert reason in next(choice.why for choice in chosen.choices if choice.key == "corpus.splits.test")
    assert sorted(item.id for items in chosen.splits.values() for item in items) == [f"u{k:02d}" for k in range(20)]


def test_one_speaker_with_nearly_everything(tmp_path: Path) -> None:
    listed = [replace(row, speaker="s0" if number > 4 else f"s{number}") for number, row in enumerate(rows(40))]
    chosen = look(tmp_path, [replace(row, speaker="s0" if number >= 8 else "s1") for number, row in enumerate(listed)]).chosen
    assert config(chosen, "corpus")["splits"]["test"]["by"] == "utterance"


def test_own_splits(tmp_path: Path) -> None:
    proposal = look(tmp_path, in_splits(rows(), train=15, valid=3, test_a=3, test_b=3))
    assert config(proposal.chosen, "corpus")["splits"] == {"train": "train", "dev": "valid", "test_a": "test_a", "test_b": "test_b"}
    assert proposal.chosen.tests == ["test_a", "test_b"]


def test_a_dev_set_where_there_is_none(tmp_path: Path) -> None:
    chosen = look(tmp_path, in_splits(rows(), train=18, test=6)).chosen
    splits = config(chosen, "corpus")["splits"]
    assert splits["train"] == "train" and splits["test"] == "test" and splits["dev"]["from"] == "train"
    assert not set.intersection(speakers(chosen)["dev"], speakers(chosen)["train"])


def test_own_splits_that_share_speakers(tmp_path: Path) -> None:
    listed = in_splits(rows(), train=17, test=7)
    proposal = look(tmp_path, listed)
    assert ids(proposal, "speakers are both in 'train' and in 'test'") == ("s5",)
    assert "shares 1 speakers" in next(choice.why for choice in proposal.chosen.choices if choice.key == "corpus.splits.train")
    assert sum(map(len, speakers(proposal.chosen).values())) == 8


def test_a_training_set_that_is_too_small(tmp_path: Path) -> None:
    chosen = look(tmp_path, in_splits(rows(), train=9, test=15)).chosen
    assert "only 38% of it" in next(choice.why for choice in chosen.choices if choice.key == "corpus.splits.train")
    assert len(chosen.splits["train"]) > 15


def test_texts_that_are_both_trained_on_and_tested(tmp_path: Path) -> None:
    listed = in_splits(rows(), train=18, test=6)
    listed[20] = replace(listed[20], text=listed[0].text)
    proposal = look(tmp_path, listed)
    assert ids(proposal, "utterances of test") == ("u20",)
    assert ids(proposal, "say what another says too") == ("u00", "u20")


# ---------------------------------------------------------------- tokens, model, training


def chosen_for(hours: float, text: str, start: str | None = None) -> Choices:
    chosen = Choices(splits={"train": [Transcript(f"u{k}", text, None, hours * 36) for k in range(100)]})
    chosen.add("corpus.source", {"type": "table"}, "")
    chosen.add("corpus.splits.train", "all", "")
    choose_tokens(chosen, hours)
    choose_model(chosen, hours, start)
    return chosen


def test_little_speech_starts_from_a_trained_model() -> None:
    alone, helped, large = chosen_for(2, "habari"), chosen_for(2, "habari", "../numbers/exp/conformer"), chosen_for(30, "habari", "../x")
    assert alone.value("train.init_from") is None and helped.value("train.init_from") == "../numbers/exp/conformer"
    assert helped.value("train.epochs") == alone.value("train.epochs") / 2
    assert "train.init_from" not in [choice.key for choice in large.choices], "the model of numbers is of another shape"


@pytest.mark.parametrize("hours", [0.02, 0.5, 2, 9, 30, 200, 5000])
def test_every_size_is_a_valid_config(hours: float) -> None:
    values = {"name": "x", **config(chosen_for(hours, "habari za asubuhi"))}
    parsed = validate(ExperimentConfig, values, "test")
    steps = parsed.train.epochs * hours * 3600 / parsed.train.batches.max_duration
    assert parsed.losses["rnnt"].warmup_steps <= max(1, 0.2 * steps)
    assert parsed.train.schedule.warmup_steps <= max(1, 0.1 * steps)


def test_more_hours_never_mean_a_smaller_model() -> None:
    assert [size.hours for size in SIZES] == sorted(size.hours for size in SIZES) and SIZES[-1].hours == math.inf
    parameters = [size.layers * size.dim * (size.dim + size.feedforward) for size in SIZES]
    assert parameters == sorted(parameters)


@pytest.mark.parametrize("hours, text, tokens", [
    (2, "habari", {"type": "char"}),
    (30, "habari", {"type": "bpe", "vocab_size": 500}),
    (30, "".join(map(chr, range(0x1200, 0x1200 + 250))), {"type": "bpe", "vocab_size": 800}),
    (30, "".join(map(chr, range(0xAC00, 0xAC00 + 400))), {"type": "char"}),
])
def test_tokens(hours: float, text: str, tokens: dict[str, Any]) -> None:
    assert chosen_for(hours, text).value("tokens") == tokens


def test_tokens_of_a_script_without_spaces(tmp_path: Path) -> None:
    proposal = look(tmp_path, [replace(row, text=f"你好{chr(0x4E00 + number)}世界") for number, row in enumerate(rows())])
    assert proposal.chosen.value("tokens") == {"type": "char", "boundary": "attached"}
    assert proposal.chosen.splits["train"][0].text.split() == list(proposal.chosen.splits["train"][0].text.replace(" ", ""))
