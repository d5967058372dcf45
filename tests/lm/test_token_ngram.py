from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from asr.lm import NgramLm, TokenNgram, estimate, read_arpa, write_arpa
from tests.lm.test_arpa import GOOD
from tests.lm.test_kneser_ney import p, zipfian

SENTENCES = zipfian(150, 12, seed=3)
SYMBOLS = ["<blk>", "<unk>", *sorted({word for sentence in SENTENCES for word in sentence})]


def check(lm: NgramLm, ngram: TokenNgram, symbols: list[str], seed: int, steps: int = 5) -> None:
    """Batched scores of random token sequences (blanks among them) equal the model's own rows, one n-gram at a time."""
    generator = random.Random(seed)
    histories: list[tuple[str, ...]] = [("<s>",)] * 6
    state_N = ngram.start(len(histories), "cpu")
    for _ in range(steps):
        scores_NV = ngram.scores(state_N)
        assert scores_NV.shape == (len(histories), len(symbols)) and scores_NV.dtype == torch.float32
        final_N = ngram.final(state_N)
        for row, history in enumerate(histories):
            expected = [0.0] + [math.log(p(lm, symbol, history)) for symbol in symbols[1:]]
            assert scores_NV[row].tolist() == pytest.approx(expected, abs=1e-5)
            assert float(final_N[row]) == pytest.approx(math.log(p(lm, "</s>", history)), abs=1e-5)
        tokens = [generator.randrange(len(symbols)) for _ in histories]
        histories = [(*history, symbols[token]) if token else history for history, token in zip(histories, tokens)]
        state_N = ngram.advance(state_N, torch.tensor(tokens))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("table_entries", [1 << 24, 20 * len(SYMBOLS), 1], ids=["all", "some", "hardly_any"])
def test_equals_the_slow_scorer(order: int, table_entries: int) -> None:
    lm = estimate(SENTENCES, order, vocabulary=SYMBOLS[1:])
    check(lm, TokenNgram(lm, SYMBOLS, table_entries), SYMBOLS, seed=order)


def test_pruned_model_whose_suffixes_are_not_listed(tmp_path: Path) -> None:
    """The trigram <s> a b is there, and the histories 'b' and '<s> a' back off through what is missing between."""
    path = tmp_path / "lm.arpa"
    path.write_text(GOOD.replace("-0.2\ta b\t-0.4\n", "").replace("ngram 2=3", "ngram 2=2"))
    lm = read_arpa(path)
    check(lm, TokenNgram(lm, ["<blk>", "a", "b"]), ["<blk>", "a", "b"], seed=1)


def test_sum_over_tokens_equals_the_sentence_score(tmp_path: Path) -> None:
    lm = estimate(SENTENCES, 3, vocabulary=SYMBOLS[1:])
    write_arpa(lm, tmp_path / "token.arpa")
    ngram = TokenNgram.load(tmp_path / "token.arpa", SimpleNamespace(symbols=SYMBOLS))
    for sentence, scores in zip(SENTENCES[:30], lm.score(SENTENCES[:30])):
        state = ngram.start(1, "cpu")
        total = 0.0
        for word in sentence:
            token = torch.tensor([SYMBOLS.index(word)])
            total += float(ngram.scores(state)[0, token])
            state = ngram.advance(state, token)
        assert total + float(ngram.final(state)) == pytest.approx(float(scores.sum()) * math.log(10), abs=1e-4)


def test_another_tokenizers_model_is_refused(tmp_path: Path) -> None:
    lm = estimate(SENTENCES, 2)
    with pytest.raises(ValueError, match="another tokenizer"):
        TokenNgram(lm, ["<blk>", "<unk>", "x", "y", "z"])
    ngram = TokenNgram(lm, [*SYMBOLS, "new"])
    scores = ngram.scores(ngram.start(1, "cpu"))[0]
    assert scores[-1] == scores[1], "a token the model does not know counts as <unk>"
    (tmp_path / "token.arpa").write_text("nothing")
    with pytest.raises(ValueError, match="token.arpa:1"):
        TokenNgram.load(tmp_path / "token.arpa", SimpleNamespace(symbols=SYMBOLS))


@pytest.mark.gpu
@pytest.mark.parametrize("table_entries", [1 << 24, 20 * len(SYMBOLS)])
def test_gpu_equals_cpu(table_entries: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    lm = estimate(SENTENCES, 3, vocabulary=SYMBOLS[1:])
    generator = torch.Generator().manual_seed(0)
    tokens_TN = torch.randint(0, len(SYMBOLS), (10, 8), generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        ngram = TokenNgram(lm, SYMBOLS, table_entries)
        state = ngram.start(8, device)
        scores = []
        for tokens in tokens_TN.to(device):
            scores.append(ngram.scores(state).cpu())
            state = ngram.advance(state, tokens)
        results.append(torch.stack([*scores]))
    torch.testing.assert_close(results[0], results[1])
