from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from asr.decode.modified_beam import ModifiedBeam
from asr.decode.scorers import Fusion, Length, Ngram
from asr.decode.search import Unavailable
from asr.lm import TokenNgram, estimate, write_arpa
from tests.decode.models import VOCABULARY, random_encoder_out, random_model

SYMBOLS = ["<blk>", *"abcdef"]
TOKENIZER = SimpleNamespace(vocab_size=VOCABULARY, symbols=SYMBOLS)


@pytest.fixture(scope="module")
def lang(tmp_path_factory):
    directory: Path = tmp_path_factory.mktemp("lang")
    torch.manual_seed(0)
    sentences = [[SYMBOLS[i] for i in torch.randint(1, VOCABULARY, (n,)).tolist()] for n in range(1, 30)]
    write_arpa(estimate(sentences, order=3, vocabulary=SYMBOLS[1:]), directory / "token.arpa")
    return SimpleNamespace(directory=directory)


def slow_ngram(lang, tokens, final: bool) -> float:
    """Token by token, one hypothesis."""
    ngram = TokenNgram.load(lang.directory / "token.arpa", TOKENIZER)
    state, total = ngram.start(1, "cpu"), 0.0
    for token in tokens:
        total += float(ngram.scores(state)[0, token])
        state = ngram.advance(state, torch.tensor([token]))
    return total + (float(ngram.final(state)) if final else 0.0)


def test_fusion_is_the_weighted_sum_of_its_parts(lang):
    configs = {"lm": Ngram.Config(scale=0.3), "words": Length.Config(scale=0.5), "off": Length.Config(scale=0.0)}
    fusion = Fusion(configs, TOKENIZER, lang)
    assert fusion.names == ("lm", "words")
    sequences = torch.randint(1, VOCABULARY, (5, 4))
    state = fusion.start(5, "cpu")
    assert torch.equal(state.fused_NV[:, 0], torch.zeros(5))
    totals = torch.zeros(5)
    for u in range(4):
        totals += state.fused_NV.gather(1, sequences[:, u : u + 1])[:, 0]
        state = state.select(torch.arange(5))
        fusion.step(state, torch.tensor([3, 0, 1, 4, 2]), sequences[[3, 0, 1, 4, 2], u])
    ended_B1, parts_N1R = fusion.finish(state, totals.unsqueeze(1))
    for n, sequence in enumerate(sequences.tolist()):
        lm = slow_ngram(lang, sequence, final=True)
        assert parts_N1R[n, 0].tolist() == pytest.approx([lm, 4.0], abs=1e-4)
        assert float(ended_B1[n]) == pytest.approx(0.3 * lm + 0.5 * 4, abs=1e-4)


@pytest.mark.parametrize("final", [True, False])
def test_a_search_adds_scorers_to_the_model(lang, final):
    """With a beam wide enough, the fused search finds the same sequences, each with its scorer's score added."""
    model, encoder_out = random_model(1), random_encoder_out(lens=(3, 2))
    wide = {"beam": VOCABULARY**3}
    plain = ModifiedBeam(ModifiedBeam.Config.model_validate(wide), model, TOKENIZER).decode(encoder_out)
    scorers = {"lm": {"type": "ngram", "scale": 0.4, "final": final}}
    fused = ModifiedBeam(ModifiedBeam.Config.model_validate({**wide, "scorers": scorers}), model, TOKENIZER, lang).decode(encoder_out)
    for without, with_lm in zip(plain, fused):
        expected = {h.tokens: h.score + 0.4 * slow_ngram(lang, h.tokens, final) for h in without}
        assert {h.tokens: h.score for h in with_lm} == pytest.approx(expected, abs=1e-3)
        best = with_lm[0]
        assert best.scores["lm"] == pytest.approx(slow_ngram(lang, best.tokens, final), abs=1e-3)
        assert best.scores["model"] + 0.4 * best.scores["lm"] == pytest.approx(best.score, abs=1e-3)


def test_batched_equals_one_by_one_with_scorers(lang):
    scorers = {"lm": {"type": "ngram", "scale": 0.5}, "length": {"type": "length", "scale": 0.3}}
    search = ModifiedBeam(ModifiedBeam.Config.model_validate({"scorers": scorers}), random_model(4), TOKENIZER, lang)
    encoder_out = random_encoder_out()
    for b, result in enumerate(search.decode(encoder_out)):
        n = int(encoder_out.lens_B[b])
        alone = search.decode(type(encoder_out)(encoder_out.frames_BSD[b : b + 1, :n], encoder_out.lens_B[b : b + 1]))[0]
        assert [h.tokens for h in result] == [h.tokens for h in alone]
        assert [h.score for h in result] == pytest.approx([h.score for h in alone], abs=1e-3)


def test_an_ngram_without_a_language_directory_is_unavailable():
    with pytest.raises(Unavailable, match="language directory"):
        Ngram(Ngram.Config(), TOKENIZER, None)
