from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config as BaseConfig
from asr.config import load_config, validate
from asr.tokens import BOUNDARY, Tokenizer, TokensConfig, load_tokenizer, train_tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.phone import PhoneTokenizer

# Latin with combining marks, Devanagari with vowel signs, CJK without spaces, Arabic, an emoji with a modifier, symbols of our files.
TEXTS = [
    "one two three four", "five six seven eight nine", "one five two", "four five nine", "cafe\u0301 café naïve", "नमस्ते दुनिया",
    "你好世界", "今天天气很好", "مرحبا بالعالم", "👍🏽 ok", "#1 <b> a-b's (2)", "ken lo ken", "three three two one",
]
CHARS = sorted({char for text in TEXTS for char in text if char != " "})
LEXICON = "one W AH N\ntwo T UW\ntoo T UW\nfor F ER\nfour F AO R\nfor F AO R\nthree TH R IY\n"


class Holder(BaseConfig):
    tokens: TokensConfig  # type: ignore[valid-type]


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lexicon") / "lexicon.txt"
    path.write_text(LEXICON, encoding="utf-8")
    return path


CHAR = train_tokenizer(CharTokenizer.Config(), TEXTS)
BPE = train_tokenizer(BpeTokenizer.Config(vocab_size=110), TEXTS)
UNIGRAM = train_tokenizer(BpeTokenizer.Config(vocab_size=75, model="unigram"), TEXTS)
OPEN = [CHAR, BPE, UNIGRAM]

words = st.text(alphabet=st.sampled_from(CHARS), min_size=1, max_size=8)
any_text = st.text(max_size=40)


@pytest.mark.parametrize("tokenizer", OPEN, ids=lambda t: t.config.name)
class TestOpenVocabulary:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(words, max_size=6))
    def test_encode_decode_round_trips(self, tokenizer: Tokenizer, words: list[str]) -> None:
        ids = tokenizer.encode(" ".join(words))
        assert 0 not in ids and tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == " ".join(words)
        assert [span.word for span in tokenizer.word_spans(ids)] == words
        assert ids == [token for word in words for token in tokenizer.encode_word(word)]

    @settings(max_examples=150, deadline=None)
    @given(any_text)
    def test_any_text_is_encoded_and_unknown_parts_reported(self, tokenizer: Tokenizer, text: str) -> None:
        ids = tokenizer.encode(text)
        assert (tokenizer.unk_id in ids) == bool(tokenizer.unknown(text))
        if not tokenizer.unknown(text):
            assert tokenizer.decode(ids) == " ".join(text.split())

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_word_spans_of_any_ids(self, tokenizer: Tokenizer, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.integers(1, tokenizer.vocab_size - 1), max_size=12))
        spans = tokenizer.word_spans(ids)
        assert tokenizer.decode(ids).split() == [span.word for span in spans]
        end = 0
        for span in spans:
            assert end <= span.first < span.end <= len(ids)
            assert all(tokenizer.symbols[token] == BOUNDARY for token in ids[end : span.first])
            assert tokenizer.decode(ids[span.first : span.end]) == span.word
            end = span.end
        assert all(tokenizer.symbols[token] == BOUNDARY for token in ids[end:])

    def test_files_are_deterministic_self_contained_and_copyable(self, tokenizer: Tokenizer, tmp_path: Path) -> None:
        tokenizer.save(tmp_path / "a")
        train_tokenizer(tokenizer.config, TEXTS).save(tmp_path / "b")
        files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
        assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
        (tmp_path / "a").rename(tmp_path / "elsewhere")
        loaded = load_tokenizer(tmp_path / "elsewhere")
        assert loaded.symbols == tokenizer.symbols and loaded.symbols[0] == "<blk>"
        assert [loaded.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
        lines = (tmp_path / "elsewhere" / "tokens.txt").read_text(encoding="utf-8").split("\n")
        assert lines[0] == "<blk> 0" and len(lines) == tokenizer.vocab_size + 1

    def test_boundary_mark_in_a_text_is_unknown(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.unknown(f"one{BOUNDARY}two") == [BOUNDARY]
        assert tokenizer.decode(tokenizer.encode(f"one{BOUNDARY}two")) == "one<unk>two"
        with pytest.raises(ValueError, match="U\\+2581"):
            train_tokenizer(tokenizer.config, [*TEXTS, f"a{BOUNDARY}b"])

    def test_special_symbols_in_a_text_are_text(self, tokenizer: Tokenizer) -> None:
        for text in ("<blk>", "<unk>"):
            ids = tokenizer.encode(text)
            assert 0 not in ids and tokenizer.unk_id not in ids and tokenizer.decode(ids) == text

    def test_no_text(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.encode("") == tokenizer.encode(" \t\n") == [] and tokenizer.decode([]) == ""
        for texts in ([], ["", " "]):
            with pytest.raises(ValueError, match="no text"):
                train_tokenizer(tokenizer.config, texts)


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_vocab_size_errors_name_a_size_that_works(model: str) -> None:
    for size, bound in ((5000, "at most"), (5, "at least")):
        with pytest.raises(ValueError, match=bound) as error:
            train_tokenizer(BpeTokenizer.Config(vocab_size=size, model=model), TEXTS)
        possible = int(str(error.value).split("tokens.vocab_size=")[1].split()[0])
        if model == "bpe" or bound == "at most":
            assert train_tokenizer(BpeTokenizer.Config(vocab_size=possible, model=model), TEXTS).vocab_size == possible


class TestPhone:
    def test_words_by_pronunciation(self, lexicon: Path, tmp_path: Path) -> None:
        train_tokenizer(PhoneTokenizer.Config(lexicon=str(lexicon)), ["two too too", "three one four"]).save(tmp_path / "tokens")
        tokenizer = load_tokenizer(tmp_path / "tokens")
        symbols = [tokenizer.symbols[token] for token in tokenizer.encode("one for")]
        assert symbols == [BOUNDARY, "W", "AH", "N", BOUNDARY, "F", "ER"]
        assert len(tokenizer.pronunciations("for")) == 2
        assert tokenizer.decode(tokenizer.encode("three two")) == "three too", "of homophones, the one frequent in the text"
        assert tokenizer.decode(tokenizer.encode("for")[:2]) == "F"
        assert tokenizer.decode(tokenizer.encode("three")[1:3]) == "TH-R"
        assert tokenizer.word_spans(tokenizer.encode("one three")) == [("one", 1, 4), ("three", 5, 8)]
        assert tokenizer.unknown("one ten ten six") == ["ten", "six"]
        assert tokenizer.encode("ten") == [tokenizer.symbols.index(BOUNDARY), tokenizer.unk_id]

    def test_words_without_pronunciation_are_named(self, lexicon: Path, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(ValueError, match="2 words: ten, six"):
            train_tokenizer(PhoneTokenizer.Config(lexicon=str(lexicon)), ["one ten", "six one"])
        with pytest.raises(ValueError, match="another case"):
            train_tokenizer(PhoneTokenizer.Config(lexicon=str(lexicon)), ["ONE TWO"])
        train_tokenizer(PhoneTokenizer.Config(lexicon=str(lexicon), oov="unk"), ["one ten"])
        assert "ten" in caplog.text

    def test_real_lexicons(self, shared: Path) -> None:
        config = PhoneTokenizer.Config(lexicon=str(shared / "corpora/text/cmudict.dict"))
        cmudict = train_tokenizer(config, ["hello world", "read the record"])
        assert cmudict.vocab_size == 3 + 69
        assert cmudict.decode(cmudict.encode("hello world")) == "hello world" and len(cmudict.pronunciations("record")) > 1
        config = PhoneTokenizer.Config(lexicon=str(shared / "corpora/speechocean762/resource/lexicon.txt"))
        texts = [line.split("\t")[1] for line in (shared / "corpora/speechocean762/train/text").read_text().splitlines()]
        assert train_tokenizer(config, texts).unknown(" ".join(texts)) == []


@pytest.mark.parametrize(
    "content, message",
    [("", "empty"), (";;; only a comment\n", "empty"), ("one W AH N\ntwo\n", ":2: the word 'two'"), ("one #1\n", "no pronunciation"),
     ("one <blk>\n", "may not be phones")],
)
def test_bad_lexicons(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        train_tokenizer(PhoneTokenizer.Config(lexicon=str(path)), ["one"])


def test_missing_files_say_which_stage_makes_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_tokens"):
        load_tokenizer(tmp_path)
    BPE.save(tmp_path)
    (tmp_path / "bpe.model").unlink()
    with pytest.raises(ValueError, match="incomplete.*bpe.model"):
        load_tokenizer(tmp_path)
    CHAR.save(tmp_path)
    (tmp_path / "tokens.txt").write_text("<blk> 0\n<unk> 2\n")
    with pytest.raises(ValueError, match="tokens.txt:2"):
        load_tokenizer(tmp_path)


def test_config_is_chosen_by_type(tmp_path: Path) -> None:
    names = [validate(Holder, {"tokens": tokens}, "here").tokens.name
             for tokens in ({"type": "char"}, {"type": "bpe", "vocab_size": 80}, {"type": "bpe", "model": "unigram"})]
    assert names == ["char", "bpe_80", "unigram_500"]
    (tmp_path / "c.yaml").write_text("tokens: {type: bpe, vocab_sise: 3}\n")
    with pytest.raises(ValueError, match="vocab_size"):
        load_config(Holder, tmp_path / "c.yaml")


class TestAttachedBoundary:
    TEXTS = ("我 用 python 写 程 序", "他 用 perl")
    TOKENIZER = train_tokenizer(CharTokenizer.Config(boundary="attached"), TEXTS)

    def test_a_word_of_one_character_is_one_token(self) -> None:
        for text in self.TEXTS:
            ids = self.TOKENIZER.encode(text)
            assert len(ids) == len(text.replace(" ", ""))
            assert self.TOKENIZER.decode(ids) == text and self.TOKENIZER.unknown(text) == []
        assert [self.TOKENIZER.symbols[token] for token in self.TOKENIZER.encode("我 perl")] == ["▁我", "▁p", "e", "r", "l"]

    def test_a_first_character_that_never_began_a_word(self) -> None:
        ids = self.TOKENIZER.encode("on 我用")
        assert [self.TOKENIZER.symbols[token] for token in ids] == ["▁", "o", "n", "▁我", "<unk>"]
        assert self.TOKENIZER.unknown("on 我用") == ["用"] and self.TOKENIZER.decode(self.TOKENIZER.encode("on")) == "on"

    def test_its_files_make_the_same(self, tmp_path: Path) -> None:
        self.TOKENIZER.save(tmp_path)
        assert load_tokenizer(tmp_path).encode(self.TEXTS[0]) == self.TOKENIZER.encode(self.TEXTS[0])
        assert self.TOKENIZER.config.name != CHAR.config.name
