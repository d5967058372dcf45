"""Several segmentations, reduced alphabets, and pronunciations by eSpeak NG."""
from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import sentencepiece

from asr.tokens import BOUNDARY, load_tokenizer, tokenizer_files, train_tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.espeak import pronounce
from asr.tokens.phone import PhoneTokenizer
from asr.tokens.reduced import ReducedTokenizer

TEXTS = ["one two three", "thirteen thirty three", "forty two fourteen", "twenty one", "seventeen seventy nine"]


def all_spellings(symbols: list[str], text: str) -> list[list[int]]:
    """By cutting everywhere."""
    found = []
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        places = [0, *(i for i, cut in enumerate(cuts, 1) if cut), len(text)]
        parts = [text[i:j] for i, j in zip(places, places[1:])]
        if all(part in symbols for part in parts):
            found.append([symbols.index(part) for part in parts])
    return found


def test_segmentations_of_bpe_are_those_of_the_fewest_pieces() -> None:
    tokenizer = train_tokenizer(BpeTokenizer.Config(vocab_size=40), TEXTS)
    for word in sorted({word for text in TEXTS for word in text.split()}):
        expected = sorted(all_spellings(tokenizer.symbols, BOUNDARY + word), key=lambda tokens: (len(tokens), tokens))
        assert tokenizer.spellings(BOUNDARY + word, 5) == expected[:5]
        several = tokenizer.pronunciations(word, 4)
        assert several[0] == tokenizer.encode(word) and len(several) == min(4, len(expected))
        assert tokenizer.pronunciations(word) == [tokenizer.encode(word)]
    assert tokenizer.spellings("ty2", 3) == [] and tokenizer.unknown("ty2") == ["2"]


def test_segmentations_of_a_unigram_model_are_sentencepieces(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(BpeTokenizer.Config(vocab_size=28, model="unigram"), TEXTS)
    tokenizer.save(tmp_path)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    for word in ("thirteen", "seventy", "one", "nineteen"):
        def likelihood(tokens: list[int]) -> float:
            return sum(pieces.get_score(token) for token in tokens)

        found, expected = tokenizer.pronunciations(word, 5), pieces.nbest_encode_as_ids(word, 5)
        assert [likelihood(tokens) for tokens in found] == pytest.approx([likelihood(tokens) for tokens in expected], abs=1e-3)


class TestReduced:
    @pytest.mark.parametrize(
        "tokens", [CharTokenizer.Config(), CharTokenizer.Config(boundary="attached"), BpeTokenizer.Config(vocab_size=14)],
        ids=lambda config: config.name,
    )
    def test_round_trip(self, tokens: CharTokenizer.Config | BpeTokenizer.Config, tmp_path: Path) -> None:
        texts = ["<lang:x> dhaba bata", "dhaba baata", "daaba batta bata"]
        config = ReducedTokenizer.Config(merge={"dh": "d", "aa": "a", "tt": "t"}, tokens=tokens)
        assert config.name == f"reduced_{tokens.name}"
        train_tokenizer(config, texts).save(tmp_path)
        tokenizer = load_tokenizer(tmp_path)
        assert not any("h" in symbol for symbol in tokenizer.symbols)
        assert tokenizer.encode("dhaba") == tokenizer.encode("daaba") == tokenizer.encode("daba")
        assert tokenizer.decode(tokenizer.encode("<lang:x> daaba batta")) == "<lang:x> dhaba bata", "the most frequent of each form"
        assert tokenizer.decode(tokenizer.encode("dhab")) == "dab", "a form of no word"
        assert "z" in "".join(tokenizer.unknown("dhaba zh")) and not tokenizer.unknown("dhaba baatta")
        assert sorted(path.name for path in tokenizer_files(tmp_path)).count("tokens.txt") == 2

    def test_a_word_does_not_vanish(self) -> None:
        tokenizer = train_tokenizer(ReducedTokenizer.Config(merge={"h": ""}), ["h ah", "a"])
        assert tokenizer.decode(tokenizer.encode("h ah")) == "h a"
        with pytest.raises(ValueError, match="merge"):
            ReducedTokenizer.Config(merge={})


class TestEspeak:
    def test_pronunciations(self) -> None:
        assert pronounce("three", "en-us") == ("θ", "ɹ", "iː") and pronounce("habari", "sw") == ("h", "a", "b", "a", "r", "i")
        assert pronounce("forty-two", "en-us") == ("f", "ɔːɹ", "ɾ", "i", "t", "uː")
        assert pronounce("?", "sw") == () and pronounce("", "sw") == ()
        with pytest.raises(ValueError, match="no voice 'zz'"):
            pronounce("one", "zz")

    def test_do_not_depend_on_what_was_asked_before(self) -> None:
        words = ["one", "read", "record", "naïve", "ಕನ್ನಡ", "two"]
        first = [(word, voice, pronounce(word, voice)) for voice in ("en-us", "sw", "de") for word in words]
        assert all(pronounce(word, voice) == phones for word, voice, phones in reversed(first))

    def test_a_tokenizer_of_them(self, tmp_path: Path) -> None:
        config = PhoneTokenizer.Config(espeak="en-us")
        assert config.name == "phone_en-us"
        train_tokenizer(config, ["four for three", "four ten"]).save(tmp_path)
        tokenizer = load_tokenizer(tmp_path)
        assert tokenizer.decode(tokenizer.encode("for three")) == "four three", "homophones: the more frequent one"
        assert tokenizer.unknown("tree oar zoo") == ["zoo"], "'tree' has no phone but theirs"
        assert [tokenizer.symbols[token] for token in tokenizer.encode("tree")] == [BOUNDARY, *pronounce("tree", "en-us")]
        before = (tmp_path / "pronunciations.txt").read_bytes()
        train_tokenizer(config, ["four ten", "four for three"]).save(tmp_path)
        assert (tmp_path / "pronunciations.txt").read_bytes() == before

    def test_one_source_of_phones(self) -> None:
        for settings in ({}, {"espeak": "sw", "lexicon": "lexicon.txt"}):
            with pytest.raises(ValueError, match="set one of the two"):
                PhoneTokenizer.Config(**settings)
