from __future__ import annotations

import math

import pytest

from asr.lm import NgramLm, estimate, prune, read_arpa, write_arpa
from tests.lm.test_kneser_ney import zipfian


class Backoff:
    """The rows of a model in a dictionary, and the back-off recursion, one n-gram at a time."""

    def __init__(self, lm: NgramLm) -> None:
        self.rows: dict[tuple[str, ...], tuple[float, float]] = {}
        spelled: list[tuple[str, ...]] = [()]
        for order in lm.orders:
            spelled = [(*spelled[h], lm.words[w]) for h, w in zip(order.history, order.word)]
            self.rows.update(zip(spelled, zip(order.log_prob.tolist(), order.backoff.tolist())))
        self.words = [word for word in lm.words if word != "<s>"]

    def p(self, word: str, history: tuple[str, ...]) -> float:
        if (*history, word) in self.rows:
            return 10 ** self.rows[(*history, word)][0]
        return 10 ** self.rows.get(history, (0.0, 0.0))[1] * self.p(word, history[1:])

    def total(self, history: tuple[str, ...]) -> float:
        return sum(self.p(word, history) for word in self.words)


@pytest.fixture(scope="module")
def lm() -> NgramLm:
    return estimate(zipfian(400, 25, seed=1), order=3)


@pytest.mark.parametrize("threshold", [1e-5, 1e-3, 10.0])
def test_every_history_still_adds_up_to_one(lm, threshold, tmp_path):
    pruned = prune(lm, threshold)
    assert set(Backoff(pruned).rows) < set(Backoff(lm).rows)
    write_arpa(pruned, tmp_path / "pruned.arpa")
    model = Backoff(read_arpa(tmp_path / "pruned.arpa"))
    histories = [gram for gram in model.rows if len(gram) < pruned.order and gram[-1] != "</s>"]
    for history in [(), *histories, ("w3", "w20"), ("w24", "w0")]:
        assert model.total(history) == pytest.approx(1, abs=1e-4), history


def test_a_listed_ngram_keeps_its_probability_and_a_history_stays_with_what_follows_it(lm):
    before, after = Backoff(lm), Backoff(prune(lm, 1e-4))
    for gram in after.rows:
        assert len(gram) == 1 or gram[:-1] in after.rows
        assert after.rows[gram][0] == before.rows[gram][0]


def test_half_of_the_ngrams_go_and_perplexity_hardly_rises(lm):
    text = zipfian(300, 25, seed=2)
    pruned = prune(lm, 1e-4)
    assert sum(map(len, pruned.orders)) < 0.6 * sum(map(len, lm.orders))
    assert pruned.perplexity(text).value == pytest.approx(lm.perplexity(text).value, rel=0.02)
    assert pruned.perplexity(text).value < prune(lm, 10.0).perplexity(text).value, "which leaves nothing but single words"


def test_the_criterion_is_the_divergence_of_the_two_models():
    """Bigrams of a small model: sum over all words of p(h) p(w|h) log p(w|h) / q(w|h), where q does without one of them."""
    lm = estimate(zipfian(60, 6, seed=3), order=2)
    model = Backoff(lm)
    listed = sorted(gram for gram in model.rows if len(gram) == 2)
    ratios = {}
    for h, w in listed:
        kept = [b for a, b in listed if a == h and b != w]
        weight = (1 - sum(model.p(b, (h,)) for b in kept)) / (1 - sum(model.p(b, ()) for b in kept))
        other = {x: model.p(x, (h,)) if x in kept else weight * model.p(x, ()) for x in model.words}
        seen = model.p("</s>" if h == "<s>" else h, ())
        ratios[h, w] = math.expm1(seen * sum(model.p(x, (h,)) * math.log(model.p(x, (h,)) / other[x]) for x in model.words))
    for threshold in (1e-4, 1e-3, 5e-3):
        left = {gram for gram in Backoff(prune(lm, threshold)).rows if len(gram) == 2}
        assert left == {gram for gram in listed if ratios[gram] >= threshold} and left < set(listed)
