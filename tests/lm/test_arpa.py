from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr.lm import estimate, read_arpa, write_arpa

GOOD = """\\data\\
ngram 1=4
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.3
-0.5\t</s>
-0.6\tb\t-0.2
-0.7\ta\t-0.1

\\2-grams:
-0.2\ta b\t-0.4
-0.1\t<s> a\t-0.25
-0.2\tb </s>

\\3-grams:
-0.05\t<s> a b

\\end\\
"""


def read(text: str, directory: Path):
    path = directory / "lm.arpa"
    path.write_text(text, encoding="utf-8")
    return read_arpa(path)


def test_scores_by_hand(tmp_path: Path) -> None:
    lm = read("a comment\n" + GOOD, tmp_path)
    scores = lm.score([["a", "b"], ["b", "a", "b"], []])
    assert scores[0].tolist() == pytest.approx([-0.1, -0.05, -0.4 - 0.2])
    assert scores[1].tolist() == pytest.approx([-0.3 - 0.6, -0.2 - 0.7, -0.2, -0.4 - 0.2])
    assert scores[2].tolist() == pytest.approx([-0.3 - 0.5])
    after_unknown = lm.score([["a", "x", "b"]])[0]
    assert after_unknown.tolist() == pytest.approx([-0.1, -np.inf, -0.6, -0.2])


def test_round_trip_of_every_order(tmp_path: Path) -> None:
    text = [list(line) for line in ["abcab", "bca", "cab", "abca", "ccab", "dà中"]]
    for order in (1, 2, 3, 5):
        lm = estimate(text, order)
        write_arpa(lm, tmp_path / "a.arpa")
        again = read_arpa(tmp_path / "a.arpa")
        assert again.words == lm.words and [len(o) for o in again.orders] == [len(o) for o in lm.orders]
        for one, other in zip(again.orders, lm.orders):
            np.testing.assert_array_equal(one.history, other.history)
            np.testing.assert_array_equal(one.word, other.word)
            np.testing.assert_allclose(one.log_prob, other.log_prob, atol=1e-7)
            np.testing.assert_allclose(one.backoff, other.backoff, atol=1e-7)
        write_arpa(again, tmp_path / "b.arpa")
        assert (tmp_path / "a.arpa").read_bytes() == (tmp_path / "b.arpa").read_bytes()


@pytest.mark.parametrize(
    "old, new, message",
    [
        (GOOD, "", r"lm.arpa:0: no '\\data\\' line"),
        (GOOD, "hello\nworld\n", r"lm.arpa:2: no '\\data\\'"),
        ("ngram 1=4\n", "", "lm.arpa:2: expected 'ngram 1="),
        ("ngram 2=3", "ngram 2=4", "lm.arpa:17: 4 2-grams were announced, but only 3"),
        ("ngram 2=3", "ngram 2=2", "lm.arpa:15: more 2-grams than the 2"),
        ("-0.6\tb", "-0.6x\tb", "lm.arpa:9: not a number"),
        ("-0.6\tb", "0.6\tb", "lm.arpa:9: .*not above 0"),
        ("-0.6\tb", "nan\tb", "lm.arpa:9: .*finite"),
        ("-0.6\tb", "-0.6\tb c", "lm.arpa:9: expected a log-probability, 1 words"),
        ("-0.7\ta", "-0.7\tb", "lm.arpa:10: the unigram 'b' is there twice"),
        ("a b\t-0.4", "a c\t-0.4", "lm.arpa:13: 'c' is not among the unigrams"),
        ("b </s>", "<s> a", "lm.arpa:15: the 2-gram '<s> a' is there twice"),
        ("<s> a b", "b b a", "lm.arpa:18: the history 'b b' of this 3-gram"),
        ("\\3-grams:", "\\4-grams:", r"lm.arpa:17: expected '\\3-grams:'"),
        ("\\end\\\n", "", r"expected '\\end\\', got None: is the file cut off"),
        ("</s>", "</e>", "no unigram </s>"),
    ],
)
def test_garbage_is_refused_with_the_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read(GOOD.replace(old, new), tmp_path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such ARPA file"):
        read_arpa(tmp_path / "none.arpa")
    (tmp_path / "binary.arpa").write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_arpa(tmp_path / "binary.arpa")
