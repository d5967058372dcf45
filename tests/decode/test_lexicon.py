from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from asr.decode.lexicon import Lexicon
from asr.decode.modified_beam import ModifiedBeam
from asr.lm import WordNgram, estimate, read_arpa, write_arpa
from asr.types import Hypothesis
from tests.decode.models import random_encoder_out, random_model
from tests.decode.words import BEGINS, TOKENIZER, sequences, totals

LEXICON = {"a": [[2]], "ab": [[2, 5]], "abba": [[2, 5, 5, 4]], "b": [[3], [3, 3 + 1]], "bee": [[3]], "unseen": [[3, 5]]}
TEXTS = ["a b", "ab a bee", "bee ab ab", "b a", "abba b ab", "a a bee", "ab", "bee abba"] * 3


@pytest.fixture(scope="module", params=[True, False], ids=["with_unk", "without_unk"])
def lang(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("lang")
    vocabulary = [*LEXICON, "<unk>"] if request.param else [word for word in LEXICON if word != "unseen"]
    write_arpa(estimate([text.split() for text in TEXTS], 3, vocabulary), directory / "word.arpa")
    return SimpleNamespace(directory=directory, lexicon=LEXICON)


def words_of(tokens: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """The tokens of each word; None where the first token does not begin one."""
    words: list[tuple[int, ...]] = []
    for token in tokens:
        if token in BEGINS:
            words.append((token,))
        elif not words:
            return None
        else:
            words[-1] += (token,)
    return words


@cache
def log_probs(path: Path, words: tuple[str, ...]) -> list[float]:
    """Of each word of a sentence, and of its end."""
    return (model(path).score([words])[0] * math.log(10)).tolist()


@cache
def model(path: Path):
    return read_arpa(path)


def slow(lang, tokens: tuple[int, ...], ngram: bool, unknown: float | None) -> tuple[float, list[str]]:
    """Word by word: the model's score of the words, of homophones the likeliest given those before."""
    path = lang.directory / "word.arpa"
    lm = model(path)
    spelled = words_of(tokens)
    if spelled is None:
        assert unknown is None or tokens
        return -math.inf, []
    found: list[str] = []
    total = 0.0

    def score(words: list[str]) -> float:
        return log_probs(path, tuple(words))[-2] if ngram else 0.0

    for spelling in spelled:
        candidates = [word for word, variants in lang.lexicon.items() if list(spelling) in variants]
        if ngram and "<unk>" not in lm.ids:
            candidates = [word for word in candidates if word in lm.ids]
        if candidates:
            best = max(candidates, key=lambda word: score([*found, word]))
            total += score([*found, best])
            found.append(best)
        elif unknown is None:
            return -math.inf, []
        else:
            known = not ngram or "<unk>" in lm.ids
            total += unknown + (score([*found, "<unk>"]) if known else 0.0)
            found.append("<unk>")
    if ngram:
        total += log_probs(path, tuple(found))[-1]
    return total, found


@pytest.mark.parametrize("ngram, unknown", [(True, None), (True, -3.0), (False, None), (False, -2.0)])
def test_equals_the_word_model_on_every_sequence(lang, ngram, unknown):
    scorer = Lexicon(Lexicon.Config(ngram="word.arpa" if ngram else None, unknown=unknown), TOKENIZER, lang)
    found = [s for s in sequences(4) if not s or s[0] in BEGINS or unknown is None]
    expected = [slow(lang, tokens, ngram, unknown) for tokens in found]
    assert totals(scorer, found) == pytest.approx([score for score, _ in expected], abs=1e-4)
    possible = [(tokens, words) for tokens, (score, words) in zip(found, expected) if score > -math.inf]
    assert len(possible) > 20 and (len(possible) < len(found)) == (unknown is None)
    named = scorer.with_words([Hypothesis(tokens, 0.0, frames=tuple(range(len(tokens)))) for tokens, _ in possible])
    for h, (tokens, words) in zip(named, possible):
        plain = [span.word for span in TOKENIZER.word_spans(tokens)]
        assert list(h.words) == [p if word == "<unk>" else word for p, word in zip(plain, words)]
        assert list(h.word_frames) == [i for i, token in enumerate(tokens) if token in BEGINS]


def test_words_are_looked_up_together():
    lm = estimate([text.split() for text in TEXTS], 3)
    words = ["a", "ab", "b", "bee", "abba"]
    ngram, picks_NU = WordNgram(lm, words), torch.randint(len(words), (20, 5), generator=torch.Generator().manual_seed(0)).numpy()
    state, total = np.full(20, ngram.start), np.zeros(20)
    for u in range(5):
        state, scores = ngram.advance(state, picks_NU[:, u])
        total += scores
    expected = [float(s.sum()) * math.log(10) for s in lm.score([[words[i] for i in row] for row in picks_NU.tolist()])]
    assert (total + ngram.final(state)).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("durations", [(), (0, 1, 2)], ids=["rnnt", "tdt"])
def test_a_search_keeps_what_the_lexicon_allows(lang, durations):
    """With a beam wide enough: the sequences of the plain search that are words, each with the n-gram's score added."""
    model = random_model(1, durations=durations, vocabulary=TOKENIZER.vocab_size)
    encoder_out = random_encoder_out(lens=(3, 2))
    wide = {"beam": 1200, "max_symbols_per_frame": 1}
    plain = ModifiedBeam(ModifiedBeam.Config.model_validate(wide), model, TOKENIZER).decode(encoder_out)
    scorers = {"words": {"type": "lexicon", "scale": 0.6}, "hot": {"type": "hotwords", "phrases": {"ab": 1.0}}}
    search = ModifiedBeam(ModifiedBeam.Config.model_validate({**wide, "scorers": scorers}), model, TOKENIZER, lang)
    for without, result in zip(plain, search.decode(encoder_out)):
        expected = {}
        for h in without:
            score, words = slow(lang, h.tokens, True, None)
            if score > -math.inf:
                expected[h.tokens] = h.score + 0.6 * score + 2.0 * words.count("ab")
        assert {h.tokens: h.score for h in result} == pytest.approx(expected, abs=1e-3)
        assert all(h.scores["model"] + 0.6 * h.scores["words"] + h.scores["hot"] == pytest.approx(h.score, abs=1e-3) for h in result)


def test_an_unfinished_word_is_taken_where_there_is_nothing_else(lang):
    model = random_model(1, vocabulary=TOKENIZER.vocab_size)
    only_long = SimpleNamespace(directory=lang.directory, lexicon={"abba": [[2, 5, 5, 4]]})
    scorers = {"words": {"type": "lexicon", "ngram": None}, "length": {"type": "length", "scale": 20.0}}
    config = ModifiedBeam.Config.model_validate({"beam": 2, "scorers": scorers})
    ((found, *_),) = ModifiedBeam(config, model, TOKENIZER, only_long).decode(random_encoder_out(lens=(3,)))
    assert found.tokens == (2, 5, 5) and math.isfinite(found.score) and found.words == ("abb",)


def test_marks_inside_a_word_are_refused(lang):
    with pytest.raises(ValueError, match="first token, and no other"):
        Lexicon(Lexicon.Config(ngram=None), TOKENIZER, SimpleNamespace(directory=lang.directory, lexicon={"aa": [[2, 2]]}))
