from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.lang import Fst, Lang, LangConfig, make_lexicon, write_lang
from asr.lang.fst import FINAL, Acceptor
from asr.lang.lexicon import add_disambiguation, lexicon_fst
from asr.tokens import Tokenizer, train_tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.phone import PhoneTokenizer

TEXTS = ["one two three", "two two four", "four five forty five", "on one", "三 四五"]


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    path.write_text("two T UW\ntoo T UW\nt T\nfor F ER\nfor F AO R\nfour F AO R\nforty F AO R T IY\n")
    return train_tokenizer(PhoneTokenizer.Config(lexicon=str(path)), ["two too for"])


@pytest.mark.parametrize("config", [CharTokenizer.Config(), BpeTokenizer.Config(vocab_size=40)], ids=lambda c: c.name)
def test_directory_round_trip(config, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(config, TEXTS)
    tokenizer.save(tmp_path)
    lexicon = make_lexicon(LangConfig(), tokenizer, TEXTS)
    write_lang(lexicon, tokenizer.symbols, tmp_path)
    lang = Lang(tmp_path)
    assert lang.vocabulary == sorted({word for text in TEXTS for word in text.split()})
    assert lang.words[0] == "<eps>" and lang.words[-1] == "#0" and lang.word_ids["#0"] == len(lang.words) - 1
    assert lang.tokens == tokenizer.symbols
    assert lang.lexicon == {word: [tokenizer.encode(word)] for word in lang.vocabulary}
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() >= {"words.txt", "lexicon.txt", "lexicon_disambig.txt", "L.pt", "L_disambig.pt"}
    write_lang(lexicon, tokenizer.symbols, tmp_path)
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["L", "L_disambig"])
def test_l_spells_every_text(name: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CharTokenizer.Config(), TEXTS)
    tokenizer.save(tmp_path)
    lang = write_lang(make_lexicon(LangConfig(), tokenizer, TEXTS), tokenizer.symbols, tmp_path)
    lookup = Acceptor(lang.fst(name))
    marked, _ = add_disambiguation(lang.lexicon, len(lang.tokens))
    for text in TEXTS:
        spelled = (lang.lexicon if name == "L" else marked)
        match = lookup.match([token for word in text.split() for token in spelled[word][0]])
        assert match is not None and [lang.words[i] for i in match.outputs] == text.split()
    assert lookup.match(tokenizer.encode("on")[:-1]) is None, "half a word"
    assert (lookup.match([len(lang.tokens)]) is None) == (name == "L"), "#0 passes through L_disambig alone"


def test_homophones_prefixes_and_variants(phone: Tokenizer) -> None:
    lexicon = make_lexicon(LangConfig(), phone, ["two too t for four forty"])
    assert [len(lexicon[word]) for word in ("for", "two")] == [2, 1]
    marked, highest = add_disambiguation(lexicon, phone.vocab_size)
    mark = {word: [row[-1] - phone.vocab_size if row[-1] >= phone.vocab_size else 0 for row in rows] for word, rows in marked.items()}
    assert mark == {"for": [0, 1], "forty": [0], "four": [2], "t": [1], "too": [1], "two": [2]} and highest == 2


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3),
                       st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=3, unique_by=tuple), min_size=1))
def test_disambiguated_pronunciations_are_distinct_and_prefix_free(lexicon: dict[str, list[list[int]]]) -> None:
    marked, highest = add_disambiguation(lexicon, first=4)
    rows = [tuple(row) for variants in marked.values() for row in variants]
    assert len(set(rows)) == len(rows)
    assert not any(one != other and other[: len(one)] == one for one in rows for other in rows)
    assert max((token - 4 for row in rows for token in row if token > 4), default=0) == highest
    assert {word: [[t for t in row if t < 4] for row in variants] for word, variants in marked.items()} == lexicon


def test_lexicon_file_for_a_char_tokenizer(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CharTokenizer.Config(), ["one two eight"])
    path = tmp_path / "lexicon.txt"
    path.write_text("one o n e\none w o n\ntwo t w o\n8 e i g h t\n")
    lexicon = make_lexicon(LangConfig(lexicon=str(path)), tokenizer, ["one two one"])
    assert list(lexicon) == ["8", "one", "two"] and len(lexicon["one"]) == 2
    assert lexicon["8"] == [tokenizer.encode("eight")], "the boundary mark is put before the first unit"
    with pytest.raises(ValueError, match="no pronunciation for 2 words: six, ten"):
        make_lexicon(LangConfig(lexicon=str(path)), tokenizer, ["one ten six"])
    assert "six" not in make_lexicon(LangConfig(lexicon=str(path), oov="skip"), tokenizer, ["one six"])
    path.write_text("one o n x\n")
    with pytest.raises(ValueError, match="'one' is spelled with x"):
        make_lexicon(LangConfig(lexicon=str(path)), tokenizer, ["one"])


def test_words_that_cannot_be_spelled_are_named(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = train_tokenizer(CharTokenizer.Config(), ["one two"])
    with pytest.raises(ValueError, match="cannot spell 2 words: six, xylem"):
        make_lexicon(LangConfig(), tokenizer, ["one xylem six two"])
    assert list(make_lexicon(LangConfig(oov="skip"), tokenizer, ["one six two"])) == ["one", "two"]
    assert "six" in caplog.text
    with pytest.raises(ValueError, match="no words"):
        make_lexicon(LangConfig(), tokenizer, ["", " "])
    with pytest.raises(ValueError, match="<s>.*meaning of their own"):
        make_lexicon(LangConfig(), train_tokenizer(CharTokenizer.Config(), ["<s> one"]), ["<s> one"])


def test_missing_and_broken_files_say_what_to_run(tmp_path: Path) -> None:
    lang = Lang(tmp_path)
    with pytest.raises(ValueError, match="prepare_lang"):
        _ = lang.words
    with pytest.raises(ValueError, match="LG.pt.*compile_graph"):
        lang.fst("LG")
    for garbage in (b"", b"garbage", (tmp_path.name * 100).encode()):
        (tmp_path / "LG.pt").write_bytes(garbage)
        with pytest.raises(ValueError, match="not a graph file"):
            lang.fst("LG")


def test_fst_file_round_trip(tmp_path: Path) -> None:
    fst = lexicon_fst({"a": [[1, 2], [3]], "b": [[1]]}, disambig=4)
    fst.save(tmp_path / "L.pt")
    again = Fst.load(tmp_path / "L.pt")
    assert all((getattr(fst, name) == getattr(again, name)).all() for name in vars(fst)) and str(again) == "3 states, 6 arcs"
    assert again.arcs_A3[-1].tolist() != [0, 0, FINAL] and (again.arcs_A3[:, 2] == FINAL).sum() == 1
