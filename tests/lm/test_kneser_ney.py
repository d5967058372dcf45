from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.lm import NgramLm, estimate, read_arpa, write_arpa
from asr.lm.kneser_ney import FALLBACK_DISCOUNTS

sentences_of = st.lists(st.lists(st.sampled_from("abcde"), max_size=7), min_size=1, max_size=12).filter(any)


def zipfian(count: int, words: int, seed: int) -> list[list[str]]:
    """A text large enough that the discounts can be estimated."""
    generator = random.Random(seed)
    weights = [1 / (k + 1) for k in range(words)]
    names = [f"w{k}" for k in range(words)]
    return [generator.choices(names, weights, k=generator.randint(1, 9)) for _ in range(count)]


class SlowKneserNey:
    """Chen and Goodman (1999), section 3, with dictionaries: p(word | history), history a tuple that may begin with <s>."""

    def __init__(self, sentences: list[list[str]], order: int, vocabulary: set[str]) -> None:
        raw: list[Counter] = [Counter() for _ in range(order + 1)]
        for sentence in sentences:
            padded = ("<s>", *sentence, "</s>")
            for n in range(1, order + 1):
                raw[n].update(padded[i : i + n] for i in range(len(padded) - n + 1))
        while not raw[order]:
            order -= 1
        self.order = order
        self.uniform = 1 / len(vocabulary | {"<unk>", "</s>"})
        self.counts: list[dict] = [{}] * (order + 1)
        for n in range(1, order + 1):
            if n == order:
                self.counts[n] = dict(raw[n])
            else:
                before = defaultdict(set)
                for gram in raw[n + 1]:
                    before[gram[1:]].add(gram[0])
                self.counts[n] = {gram: raw[n][gram] if gram[0] == "<s>" else len(before[gram]) for gram in raw[n]}
        self.counts[1].pop(("<s>",))
        self.discounts = [self._discounts(n) for n in range(order + 1)]

    def _discounts(self, n: int) -> tuple[float, ...]:
        t = Counter(self.counts[n].values())
        if n == 0 or not (t[1] and t[2] and t[3]):
            return (0.0, *FALLBACK_DISCOUNTS)
        y = t[1] / (t[1] + 2 * t[2])
        d = (0.0, 1 - 2 * y * t[2] / t[1], 2 - 3 * y * t[3] / t[2], 3 - 4 * y * t[4] / t[3])
        return d if all(0 <= d[k] <= k for k in (1, 2, 3)) else (0.0, *FALLBACK_DISCOUNTS)

    def p(self, word: str, history: tuple[str, ...]) -> float:
        history = history[max(0, len(history) - self.order + 1) :]
        n = len(history) + 1
        lower = self.p(word, history[1:]) if history else self.uniform
        following = {gram[-1]: a for gram, a in self.counts[n].items() if gram[:-1] == history}
        total = sum(following.values())
        if total == 0:
            return lower
        d = self.discounts[n]
        weight = sum(d[min(a, 3)] for a in following.values()) / total
        a = following.get(word, 0)
        return (a - d[min(a, 3)]) / total + weight * lower


def p(lm: NgramLm, word: str, history: tuple[str, ...]) -> float:
    """Straight from the model's rows: the back-off recursion, one n-gram at a time."""
    grams = {}
    spelled: list[tuple[str, ...]] = [()]
    for order in lm.orders:
        spelled = [(*spelled[h], lm.words[w]) for h, w in zip(order.history, order.word)]
        grams.update({gram: (lp, bo) for gram, lp, bo in zip(spelled, order.log_prob, order.backoff)})

    def recurse(history: tuple[str, ...]) -> float:
        if (*history, word) in grams:
            return grams[(*history, word)][0]
        return grams.get(history, (0.0, 0.0))[1] + recurse(history[1:])

    return 10 ** recurse(history[max(0, len(history) - lm.order + 1) :])


@settings(max_examples=40, deadline=None)
@given(sentences_of, st.integers(1, 4))
def test_equals_the_equations_and_sums_to_one_on_tiny_texts(sentences: list[list[str]], order: int) -> None:
    vocabulary = set("abcdef")
    lm = estimate(sentences, order, vocabulary=vocabulary)
    slow = SlowKneserNey(sentences, order, vocabulary)
    assert lm.order == slow.order
    predicted = sorted(vocabulary | {"<unk>", "</s>"})
    histories = [h for n in range(3) for h in itertools.product("abf", repeat=n)]
    for history in histories + [("<s>", *h) for h in histories]:
        probs = {word: p(lm, word, history) for word in predicted}
        assert sum(probs.values()) == pytest.approx(1, abs=1e-9)
        for word in predicted[:3]:
            assert probs[word] == pytest.approx(slow.p(word, history), rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_equations_with_estimated_discounts(order: int) -> None:
    sentences = zipfian(400, 600 if order == 1 else 40, seed=order)
    vocabulary = {word for sentence in sentences for word in sentence}
    lm = estimate(sentences, order)
    slow = SlowKneserNey(sentences, order, vocabulary)
    assert slow.discounts[order] != (0.0, *FALLBACK_DISCOUNTS)
    for sentence, scores in zip(sentences[:20], lm.score(sentences[:20])):
        padded = ("<s>", *sentence, "</s>")
        expected = [math.log10(slow.p(padded[i], padded[:i])) for i in range(1, len(padded))]
        assert scores.tolist() == pytest.approx(expected, abs=1e-9)
    for history in [("<s>",), ("w0", "w1"), ("w39", "w39"), ("w2", "w0", "w1")]:
        assert sum(p(lm, word, history) for word in [*vocabulary, "<unk>", "</s>"]) == pytest.approx(1, abs=1e-9)


def test_real_text_is_learnt(shared: Path) -> None:
    lines = (shared / "corpora/text/librispeech_dev_clean.txt").read_text().splitlines()
    sentences = [line.split() for line in lines]
    lm = estimate(sentences[:2500], 3)
    test = sentences[2500:]
    trigram, unigram = lm.perplexity(test), estimate(sentences[:2500], 1).perplexity(test)
    assert trigram.value < 0.8 * unigram.value and trigram.oov == unigram.oov > 0
    scored = list(lm.score(test))
    direct = [math.log10(p(lm, word, ("<s>", *test[0][:i]))) for i, word in enumerate(test[0])]
    assert scored[0][:-1].tolist() == pytest.approx(direct, abs=1e-9)


def test_agrees_with_kenlm_reading_our_arpa(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed")
    sentences = zipfian(300, 30, seed=5)
    lm = estimate(sentences, 3)
    write_arpa(lm, tmp_path / "lm.arpa")
    model = kenlm.Model(str(tmp_path / "lm.arpa"))
    for sentence, scores in zip(sentences[:50], lm.score(sentences[:50])):
        assert model.score(" ".join(sentence)) == pytest.approx(float(scores.sum()), abs=1e-4)


def test_estimation_is_deterministic_whatever_the_sentence_order(tmp_path: Path) -> None:
    sentences = zipfian(200, 30, seed=1)
    write_arpa(estimate(sentences, 3), tmp_path / "a.arpa")
    write_arpa(estimate(sentences[::-1], 3), tmp_path / "b.arpa")
    assert (tmp_path / "a.arpa").read_bytes() == (tmp_path / "b.arpa").read_bytes()


def test_unseen_words_of_the_vocabulary_share_unknown_mass() -> None:
    lm = estimate([["a", "b"], ["a"]], 2, vocabulary=["a", "b", "c"])
    assert p(lm, "c", ()) == pytest.approx(p(lm, "<unk>", ())) and p(lm, "c", ()) > 0
    assert p(lm, "a", ("<s>",)) > p(lm, "b", ("<s>",)) > p(lm, "c", ("<s>",))


def test_perplexity_counts_ends_and_leaves_unknown_words_out() -> None:
    lm = estimate([["a", "b"], ["b", "a"]], 1)
    known = lm.perplexity([["a", "b"]])
    logs = [math.log10(p(lm, word, ())) for word in ("a", "b", "</s>")]
    assert known.value == pytest.approx(10 ** (-sum(logs) / 3)) and (known.words, known.oov) == (2, 0)
    with_unknown = lm.perplexity([["a", "x", "b"]])
    assert with_unknown.value == pytest.approx(known.value) and with_unknown.oov == 1
    assert "1 of them unknown" in str(with_unknown)
    assert lm.perplexity([]).value == math.inf


def test_bad_text() -> None:
    for nothing in ([], [[]], [[], []]):
        with pytest.raises(ValueError, match="no text"):
            estimate(nothing, 2)
    with pytest.raises(ValueError, match="<s>"):
        estimate([["<s>", "a"]], 2)
    with pytest.raises(ValueError, match="2 words.*not in the vocabulary: b, c"):
        estimate([["a", "b"], ["c"]], 2, vocabulary=["a"])
    lm = estimate([["a", "b"], ["c"]], 2, vocabulary=["a"], map_unknown=True)
    assert lm.words == ["<unk>", "<s>", "</s>", "a"] and p(lm, "<unk>", ("a",)) > p(lm, "a", ("a",))


def test_text_too_short_for_the_order(tmp_path: Path) -> None:
    lm = estimate([["a"]], 5)
    assert lm.order == 3, "<s> a </s>"
    write_arpa(lm, tmp_path / "lm.arpa")
    assert read_arpa(tmp_path / "lm.arpa").score([["a"]])[0].sum() == pytest.approx(lm.score([["a"]])[0].sum(), abs=1e-6)
