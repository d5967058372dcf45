"""Vocabularies of several languages, and tags of languages in every vocabulary."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asr.config import validate
from asr.tokens import Tokenizer, load_tokenizer, tokenizer_files, train_tokenizer
from asr.tokens import _Stored as Stored

SWAHILI = ["habari ya asubuhi", "maji ya kunywa ni muhimu", "mvua ilinyesha sana"]
ENGLISH = ["the boy was there", "a rod is used", "the huge river is clear"]
TEXTS = [f"<lang:{language}> {text}" for language, texts in (("sw", SWAHILI), ("en", ENGLISH)) for text in texts]
MIXED = "<lang:en> the boy <lang:sw> ya maji"


def trained(**tokens: Any) -> Tokenizer:
    return train_tokenizer(validate(Stored, {"tokens": tokens}, "test").tokens, TEXTS)


@pytest.fixture(scope="module")
def both() -> Tokenizer:
    return trained(type="concatenated", languages={"sw": {"type": "bpe", "vocab_size": 30}, "en": {"type": "char"}})


def symbols(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.symbols[token] for token in tokenizer.encode(text)]


def test_texts_come_back_and_are_spelled_by_their_own_language(both: Tokenizer) -> None:
    for text in [*TEXTS, MIXED]:
        assert both.decode(both.encode(text)) == text
        assert both.unknown(text) == []
    assert symbols(both, "<lang:en> a rod") == ["▁<lang:en>", "▁@en", "a@en", "▁@en", "r@en", "o@en", "d@en"]
    assert {symbol.rpartition("@")[2] for symbol in symbols(both, TEXTS[1])[1:]} == {"sw"}
    assert both.vocab_size == 2 + 2 + (30 - 2) + (1 + len(set("".join(ENGLISH)) - {" "}))


def test_each_language_is_spelled_as_by_a_tokenizer_of_its_own(both: Tokenizer) -> None:
    alone = train_tokenizer(validate(Stored, {"tokens": {"type": "bpe", "vocab_size": 30}}, "test").tokens, SWAHILI)
    for text in SWAHILI:
        assert symbols(both, f"<lang:sw> {text}")[1:] == [f"{alone.symbols[token]}@sw" for token in alone.encode(text)]


def test_unknown_characters_are_those_of_the_language(both: Tokenizer) -> None:
    assert both.unknown("<lang:en> the jam") == ["j", "m"]
    assert both.unknown("<lang:sw> maji ya") == []
    assert both.unknown("<lang:fr> the boy") == ["<lang:fr>"]
    assert both.encode("<lang:en> j")[-1] == both.unk_id


def test_words_of_a_lexicon_are_of_every_language_that_can_spell_them(both: Tokenizer) -> None:
    assert len(both.pronunciations("a")) == 2 and len(both.pronunciations("the")) == 1
    assert [both.decode(variant) for variant in both.pronunciations("a")] == ["a", "a"]
    assert [both.symbols[token] for token in both.encode_word("<lang:sw>")] == ["▁<lang:sw>"]


def test_it_is_saved_with_all_its_parts(both: Tokenizer, tmp_path: Path) -> None:
    both.save(tmp_path / "a")
    again = load_tokenizer(tmp_path / "a")
    assert again.symbols == both.symbols and again.config == both.config
    assert [again.encode(text) for text in [*TEXTS, MIXED]] == [both.encode(text) for text in [*TEXTS, MIXED]]
    names = {str(path.relative_to(tmp_path / "a")) for path in tokenizer_files(tmp_path / "a")}
    assert names == {"tokenizer.yaml", "tokens.txt", "sw/tokenizer.yaml", "sw/tokens.txt", "sw/bpe.model", "en/tokenizer.yaml",
                     "en/tokens.txt"}


@pytest.mark.parametrize("config", [{"type": "char"}, {"type": "char", "boundary": "attached"}, {"type": "bpe", "vocab_size": 60}],
                         ids=str)
def test_in_a_shared_vocabulary_a_tag_is_one_token(config: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = trained(**config)
    for text in [*TEXTS, MIXED]:
        assert tokenizer.decode(tokenizer.encode(text)) == text and tokenizer.unknown(text) == []
    assert tokenizer.encode(MIXED).count(tokenizer.symbols.index("▁<lang:sw>")) == 1
    assert symbols(tokenizer, "<lang:en>") == ["▁<lang:en>"]
    assert not [symbol for symbol in tokenizer.symbols if "<" in symbol and symbol[1:5] != "<lan" and symbol not in ("<blk>", "<unk>")]
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).encode(MIXED) == tokenizer.encode(MIXED)


def test_phones_with_tags(tmp_path: Path) -> None:
    words = sorted({word for text in TEXTS for word in text.split()[1:]})
    (tmp_path / "lexicon.txt").write_text("".join(f"{word} {' '.join(word)}\n" for word in words))
    tokenizer = trained(type="phone", lexicon=str(tmp_path / "lexicon.txt"))
    assert tokenizer.decode(tokenizer.encode(MIXED)) == MIXED and tokenizer.unknown(MIXED) == []


@pytest.mark.parametrize(("texts", "problem"), [
    (SWAHILI, "corpus.language_tags: true"),
    ([*TEXTS, "<lang:fr> un"], "the texts are in fr, too"),
    (TEXTS[:3], "there is no text in en; the texts are in sw"),
])
def test_texts_without_their_languages(texts: list[str], problem: str) -> None:
    config = {"type": "concatenated", "languages": {"sw": {"type": "char"}, "en": {"type": "char"}}}
    with pytest.raises(ValueError, match=problem):
        train_tokenizer(validate(Stored, {"tokens": config}, "test").tokens, texts)
