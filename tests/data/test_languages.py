"""Several corpora as one, their languages, and how much of each is trained on."""
from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asr.config import validate
from asr.data import CorpusConfig, prepare_corpus, read_cuts
from asr.data.batches import BatchConfig, balanced, language_factors
from tests.data.corpora import table_corpus

SPLITS = {"train": {"from": ["sw/train", "en/train"]}, "test_sw": "sw/test", "test_en": "en/test"}


def config(**values: Any) -> CorpusConfig:
    source = {"type": "several", "corpora": {"sw": {"type": "table"}, "en": {"type": "table"}}}
    return validate(CorpusConfig, {"source": source, "splits": SPLITS, **values}, "test")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora whose ids, recordings and speakers have the same names."""
    root = tmp_path_factory.mktemp("several")
    table_corpus(root / "sw")
    table_corpus(root / "en", utterances=12)
    return root


def test_corpora_of_the_same_names_do_not_mix(corpora: Path, tmp_path: Path) -> None:
    prepare_corpus(config(), corpora, tmp_path)
    train = read_cuts(tmp_path / "train.jsonl.gz")
    assert Counter(cut.supervisions[0].language for cut in train) == {"sw": 16, "en": 8}
    assert {cut.id[:3] for cut in train} == {cut.recording.id[:3] for cut in train} == {"sw-", "en-"}
    assert all(cut.supervisions[0].id == cut.id and cut.supervisions[0].speaker[:3] == cut.id[:3] for cut in train)
    assert len({cut.id for cut in train}) == 24 and all("<lang" not in cut.supervisions[0].text for cut in train)
    assert {cut.supervisions[0].language for cut in read_cuts(tmp_path / "test_en.jsonl.gz")} == {"en"}
    assert train[0].load_audio().shape[1] == train[0].num_samples


def test_tags_and_rules_of_languages(corpora: Path, tmp_path: Path) -> None:
    prepare_corpus(config(language_tags=True, language_text={"en": {"case": "upper"}}), corpora, tmp_path)
    texts = {cut.id: cut.supervisions[0].text for cut in read_cuts(tmp_path / "train.jsonl.gz")}
    assert texts["sw-u001"] == "<lang:sw> one two" and texts["en-u001"] == "<lang:en> ONE TWO"


def test_a_folder_named_otherwise_has_its_language_by_name(corpora: Path, tmp_path: Path) -> None:
    source = {"type": "several", "corpora": {"sw": {"type": "table"}, "en": {"type": "table"}}, "languages": {"en": "en-GB"}}
    prepare_corpus(config(source=source, language_tags=True), corpora, tmp_path)
    assert read_cuts(tmp_path / "test_en.jsonl.gz")[0].supervisions[0].text.startswith("<lang:en-GB> ")


@pytest.mark.parametrize(("values", "problem"), [
    ({"splits": {"train": "train"}}, "write it as sw/train, the corpora being sw, en"),
    ({"splits": {"train": "sw/training"}}, "no split 'training'"),
    ({"source": {"type": "several", "corpora": {"fr": {"type": "table"}}}, "splits": {"train": "fr/train"}}, "fr: no such directory"),
])
def test_what_is_not_there(corpora: Path, tmp_path: Path, values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        prepare_corpus(config(**values), corpora, tmp_path)


def test_tags_need_languages(corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'u000' has no language.*corpus.language_tags: false"):
        prepare_corpus(config(source={"type": "table"}, splits={"train": "train"}, language_tags=True), corpora / "sw", tmp_path)


def cuts(**counts: int) -> list[Any]:
    """Utterances of a second each."""
    return [SimpleNamespace(id=f"{language}-{k:04d}", duration=1.0, supervisions=[SimpleNamespace(language=language)])
            for language, count in counts.items() for k in range(count)]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_an_epoch_has_the_parts_of_the_formula(temperature: float) -> None:
    hours = {"en": 800, "sw": 150, "gu": 50}
    total = sum(hours.values())
    weights = {language: (h / total) ** (1 / temperature) for language, h in hours.items()}
    expected = {language: total * weight / sum(weights.values()) for language, weight in weights.items()}
    factors = language_factors(hours, temperature)
    for epoch in range(2):
        chosen = balanced(cuts(**hours), temperature, 1, epoch)
        found = Counter(cut.supervisions[0].language for cut in chosen)
        times = Counter(cut.id for cut in chosen)
        for language in hours:
            assert found[language] == pytest.approx(expected[language], abs=1)
            own = [times[f"{language}-{k:04d}"] for k in range(hours[language])]
            assert max(own) - min(own) <= 1 and max(own) <= math.ceil(factors[language])
    if temperature == 1:
        assert sorted(times.values()) == [1] * total


def test_which_utterances_is_a_function_of_seed_and_epoch_alone() -> None:
    names = [[cut.id for cut in balanced(cuts(en=80, sw=20), 5.0, seed, epoch)] for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    assert names[0] == names[1] and names[0] != names[2] and names[0] != names[3]
    assert names[0] == [cut.id for cut in balanced(cuts(en=80, sw=20)[::-1], 5.0, 1, 0)]


def test_temperature_without_languages() -> None:
    with pytest.raises(ValueError, match="language_temperature: utterance 'en-0000' has no language"):
        balanced([SimpleNamespace(id="en-0000", duration=1.0, supervisions=[SimpleNamespace(language=None)])], 2.0, 1, 0)
    with pytest.raises(ValueError, match="language_temperature needs the manifest"):
        validate(BatchConfig, {"language_temperature": 2, "shar": {"dir": "shar"}}, "test")
