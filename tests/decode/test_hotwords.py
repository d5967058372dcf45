from __future__ import annotations

import pytest
from pydantic import ValidationError

from asr.decode.hotwords import Hotwords, read_phrases
from asr.decode.scorers import SCORERS
from asr.tokens.phone import PhoneTokenizer
from tests.decode.words import BEGINS, TOKENIZER, sequences, totals

PHRASES = {"a": 0.5, "ab": 2.0, "ab a": 1.5, "a b a": 1.0, "ba": -1.0, "b ab ab": 3.0, "bb": 0.25}


def matches(tokens: tuple[int, ...], phrases: dict[str, float]) -> float:
    """Each place where a phrase stands as whole words."""
    total = 0.0
    for phrase, weight in phrases.items():
        wanted = tuple(TOKENIZER.encode(phrase))
        for first in range(len(tokens)):
            end = first + len(wanted)
            if tokens[first:end] == wanted and (end == len(tokens) or tokens[end] in BEGINS):
                total += weight * len(wanted)
    return total


@pytest.mark.parametrize("phrases", [PHRASES, {"ab": 1.0}, {"b b": 2.0, "b": 1.0, "b b b b": 4.0}])
def test_the_total_is_that_of_the_phrases_a_sequence_contains(phrases):
    scorer = Hotwords(Hotwords.Config(phrases=phrases), TOKENIZER)
    found = sequences(5)
    expected = [matches(tokens, phrases) for tokens in found]
    assert totals(scorer, found) == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) > 2


def test_the_bonus_comes_token_by_token_and_is_taken_back():
    scorer = Hotwords(Hotwords.Config(phrases={"ab a": 1.0}), TOKENIZER)
    automaton = scorer.automaton
    state, given = automaton.start(1, "cpu"), []
    for token in (2, 5, 3, 2, 5, 2):  # "ab" and then not "a"; then "ab a"
        given.append(float(automaton.scores(state)[0, token]))
        state = automaton.advance(state, state.new_tensor([token]))
    assert given == [1.0, 1.0, -2.0, 1.0, 1.0, 2.0], "the last 'a' may also begin the phrase again"
    assert float(automaton.final(state)) == -1.0


def test_every_pronunciation_of_a_phrase_counts():
    lexicon = {"a": [("AH",), ("EY",)], "b": [("B",)]}
    tokenizer = PhoneTokenizer(PhoneTokenizer.Config(lexicon=""), ["<blk>", "<unk>", "▁", "AH", "B", "EY"], lexicon)
    scorer = Hotwords(Hotwords.Config(phrases={"a b": 2.0}), tokenizer)
    assert totals(scorer, [(2, 3, 2, 4), (2, 5, 2, 4), (2, 4, 2, 4)]) == [8.0, 8.0, 0.0]


def test_phrases_of_a_file(tmp_path):
    path = tmp_path / "hot.txt"
    path.write_text("ab a\t2\n\nb\n")
    assert read_phrases(path) == {"ab a": 2.0, "b": 1.0}
    config = Hotwords.Config(file=str(path), phrases={"b": 5.0})
    assert totals(Hotwords(config, TOKENIZER), [(2, 5, 2), (3,)]) == pytest.approx([6.0, 5.0])
    assert config.lang_files() == (str(path),)
    path.write_text("ab\tmuch\n")
    with pytest.raises(ValueError, match="hot.txt:1"):
        read_phrases(path)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValidationError, match="need phrases"):
        SCORERS["hotwords"].Config()
    with pytest.raises(ValueError, match="'abc' has c, without a token"):
        Hotwords(Hotwords.Config(phrases={"abc": 1.0}), TOKENIZER)
    with pytest.raises(ValueError, match="not readable"):
        Hotwords(Hotwords.Config(file="nowhere.txt"), TOKENIZER)
