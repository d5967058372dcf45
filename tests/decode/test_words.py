from __future__ import annotations

import pytest

from asr.decode.words import to_text, to_words, word_starts
from asr.tokens import train_tokenizer
from asr.tokens.char import CharTokenizer
from asr.types import Hypothesis, Word

TOKENIZER = train_tokenizer(CharTokenizer.Config(), ["ab c"])
MARK, A, B, C = (TOKENIZER.symbols.index(symbol) for symbol in "▁abc")


def test_words_of_tokens():
    h = Hypothesis((MARK, A, B, MARK, C), -1.0, frames=(0, 2, 5, 7, 8), confidences=(1.0, 0.5, 0.8, 1.0, 0.9))
    assert to_text(h, TOKENIZER) == "ab c"
    assert to_words(h, TOKENIZER, 0.04) == [Word("ab", 0.08, 0.24, 0.4), Word("c", 0.32, 0.36, 0.9)]


def test_a_word_ends_where_the_next_starts():
    h = Hypothesis((MARK, A, MARK, C), -1.0, frames=(3, 3, 3, 3))
    assert to_words(h, TOKENIZER, 1.0) == [Word("a", 3.0, 3.0), Word("c", 3.0, 4.0)]


def test_what_the_search_does_not_know_is_none():
    assert to_words(Hypothesis((MARK, A), -1.0), TOKENIZER, 0.04) == [Word("a")]
    assert to_words(Hypothesis((), -1.0, words=("x", "y")), TOKENIZER, 0.04) == [Word("x"), Word("y")]
    assert to_words(Hypothesis((), 0.0, frames=(), confidences=()), TOKENIZER, 0.04) == []


def test_words_of_a_graph_take_their_times_from_the_tokens():
    tokens, frames, confidences = (MARK, A, B, MARK, C), (0, 2, 5, 7, 8), (1.0, 0.5, 0.8, 1.0, 0.9)
    h = Hypothesis(tokens, -1.0, frames=frames, confidences=confidences, words=("X", "Y"), word_frames=(2, 8))
    assert to_text(h, TOKENIZER) == "X Y"
    assert to_words(h, TOKENIZER, 1.0) == [Word("X", 2.0, 6.0, 0.4), Word("Y", 8.0, 9.0, 0.9)]
    assert word_starts(TOKENIZER, h.tokens, h.frames, arc_frames=(5, 8)) == (2, 8)


def test_words_of_a_graph_whose_tokens_do_not_show_them():
    h = Hypothesis((A, B, C), -1.0, frames=(0, 4, 8), confidences=(0.5, 0.5, 0.5), words=("X", "Y"), word_frames=(0, 6))
    assert word_starts(TOKENIZER, h.tokens, h.frames, arc_frames=(0, 6)) == (0, 6)
    assert to_words(h, TOKENIZER, 1.0) == [Word("X", 0.0, 5.0, 0.25), Word("Y", 6.0, 9.0, 0.5)]


@pytest.mark.parametrize("text", ["ab c", "c", "abc ab"])
def test_text_survives(text):
    tokens = TOKENIZER.encode(text)
    words = to_words(Hypothesis(tuple(tokens), 0.0, frames=tuple(range(len(tokens)))), TOKENIZER, 0.1)
    assert " ".join(word.text for word in words) == text
    assert all(first.end <= second.start for first, second in zip(words, words[1:]))


def test_learnt_durations_end_words():
    h = Hypothesis((MARK, A, B, MARK, C), -1.0, frames=(0, 0, 2, 7, 8), durations=(0, 2, 4, 1, 0))
    assert to_words(h, TOKENIZER, 0.5) == [Word("ab", 0.0, 3.0), Word("c", 4.0, 4.5)]
