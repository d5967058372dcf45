"""Searches over graphs with unknown words, subword grammars and reduced words: what was spelled is written."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from asr.decode import Unavailable, build_search
from asr.decode.ctc_graph import CtcGraph
from asr.decode.fast_beam import FastBeam
from asr.decode.lexicon import Lexicon
from asr.decode.words import graph_words, to_words
from asr.lang import Lang, LangConfig, build_lang, graphs
from asr.lang.fst import Acceptor
from asr.lang.lang import UnknownConfig
from asr.lang.subwords import SubwordConfig
from asr.lm import estimate, read_arpa, write_arpa
from asr.tokens import Tokenizer, train_tokenizer
from asr.tokens.bpe import BpeTokenizer
from asr.tokens.char import CharTokenizer
from asr.tokens.reduced import ReducedTokenizer
from asr.types import EncoderOut
from tests.decode.models import random_encoder_out, random_model
from tests.decode.test_graphs import ENGINES, needs_k2

TEXTS = ["one two", "two three", "one one three two", "three"]
AFFIXED = ["walk walks walking", "talk talked talks", "print printing", "jump jumps jumped jumping", "knock knocks knocked", "walks talked"]


def prepare(tokenizer: Tokenizer, config: LangConfig, texts: list[str], directory: Path) -> Lang:
    tokenizer.save(directory)
    lang = build_lang(config, tokenizer, texts, directory)
    lm = estimate([lang.split(text) for text in texts], 2, lang.vocabulary)
    write_arpa(lm, directory / "word.arpa")
    graphs.compile_graphs(lang, lm, config, texts)
    return lang


def posteriors(tokenizer: Tokenizer, text: str) -> EncoderOut:
    """Noisy frames (log-probabilities of tokens) in which each token of ``text`` is likely for two frames, and then blank for one."""
    torch.manual_seed(0)
    labels = [label for token in tokenizer.encode(text) for label in (token, token, 0)]
    logits_SV = torch.randn(len(labels), tokenizer.vocab_size)
    logits_SV[torch.arange(len(labels)), torch.tensor(labels)] += 8.0
    return EncoderOut(logits_SV.log_softmax(-1).unsqueeze(0), torch.tensor([len(labels)]))


def decode(tokenizer: Tokenizer, lang: Lang, engine: str, encoder_out: EncoderOut) -> Any:
    model = random_model(vocabulary=tokenizer.vocab_size)
    model.ctc_log_probs = lambda out: out.frames_BSD
    ((found,),) = CtcGraph(CtcGraph.Config(engine=engine), model, tokenizer, lang).decode(encoder_out)
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tokens", [CharTokenizer.Config(), CharTokenizer.Config(boundary="attached"), BpeTokenizer.Config(vocab_size=26)],
                         ids=lambda config: config.name)
@pytest.mark.parametrize("output", ["spelling", "symbol"])
def test_an_unknown_word_is_spelled(output: str, tokens: Any, engine: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(tokens, [*TEXTS, "zeta hero"])
    encoder_out = posteriors(tokenizer, "one zeta two hero")
    closed = prepare(tokenizer, LangConfig(engine="openfst"), TEXTS, tmp_path / "closed")
    assert set(decode(tokenizer, closed, engine, encoder_out).words) <= {"one", "two", "three"}
    config = LangConfig(engine="openfst", unknown=UnknownConfig(output=output))
    open_lang = prepare(tokenizer, config, TEXTS, tmp_path / "open")
    found = decode(tokenizer, open_lang, engine, encoder_out)
    assert found.words == (("one", "zeta", "two", "hero") if output == "spelling" else ("one", "<unk>", "two", "<unk>"))
    assert found.tokens == tuple(tokenizer.encode("one zeta two hero"))
    assert found.word_frames == tuple(found.frames[first] for _, first, _ in tokenizer.word_spans(found.tokens))
    assert decode(tokenizer, open_lang, engine, posteriors(tokenizer, "three one")).words == ("three", "one")


def test_a_second_pass_knows_what_an_unknown_word_costs(tmp_path: Path) -> None:
    """The n-gram that the graph was made of gives all paths the graph's scores again, and so it does on the fly over unigrams."""
    tokenizer = train_tokenizer(CharTokenizer.Config(), [*TEXTS, "zeta hero"])
    encoder_out = posteriors(tokenizer, "one zeta two hero")
    model = random_model(vocabulary=tokenizer.vocab_size)
    model.ctc_log_probs = lambda out: out.frames_BSD
    scores = []
    for order, ngram in ((2, {}), (1, {"on_the_fly": True})):
        config = LangConfig(engine="openfst", graph_order=order, unknown=UnknownConfig(log_prob=-4.0))
        lang = prepare(tokenizer, config, TEXTS, tmp_path / str(order))
        ((found,),) = CtcGraph(CtcGraph.Config(engine="numpy", ngram=ngram), model, tokenizer, lang).decode(encoder_out)
        assert found.words == ("one", "zeta", "two", "hero")
        lm = read_arpa(lang.directory / "word.arpa")
        expected = math.log(10) * float(lm.score([["one", "<unk>", "two", "<unk>"]])[0].sum()) + 2 * -4.0
        assert found.scores["ngram"] == pytest.approx(expected, abs=1e-3)
        scores.append(found.score)
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_words_of_units_are_joined(engine: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CharTokenizer.Config(), AFFIXED)
    lang = prepare(tokenizer, LangConfig(engine="openfst", subwords=SubwordConfig(min_words=3, min_stem=4)), AFFIXED, tmp_path)
    text = "printed walked knocking"
    assert lang.split(text) == ["print", "‿ed", "walk", "‿ed", "knock", "‿ing"] and not set(text.split()) & set(" ".join(AFFIXED).split())
    found = decode(tokenizer, lang, engine, posteriors(tokenizer, text))
    assert found.words == tuple(text.split())
    assert [word.text for word in to_words(found, tokenizer, 0.1)] == text.split()
    assert found.word_frames == tuple(found.frames[first] for _, first, _ in tokenizer.word_spans(found.tokens))
    with pytest.raises(Unavailable, match="no other, begins with"):
        Lexicon(Lexicon.Config(ngram=None), tokenizer, lang)


@pytest.mark.parametrize("engine", ENGINES)
def test_reduced_words_are_reconstructed(engine: str, tmp_path: Path) -> None:
    """By the n-gram of a graph, and by the lexicon scorer in a beam search."""
    texts = ["red bear", "red bear", "blue pear", "blue pear", "bear bear bear"]
    tokenizer = train_tokenizer(ReducedTokenizer.Config(merge={"p": "b"}), texts)
    lang = prepare(tokenizer, LangConfig(engine="openfst"), texts, tmp_path)
    encoder_out = posteriors(tokenizer, "blue bear")
    assert tokenizer.decode(tokenizer.encode("blue pear")) == "blue bear", "without a language model, the more frequent word"
    assert decode(tokenizer, lang, engine, encoder_out).words == ("blue", "pear")
    scorer = Lexicon(Lexicon.Config(ngram=None), tokenizer, lang)
    assert scorer.words_CH.max() >= 0, "words that are spelled alike are one node's"


@needs_k2
@torch.no_grad()
@pytest.mark.parametrize("config", [
    LangConfig(unknown=UnknownConfig()), LangConfig(subwords=SubwordConfig(min_words=3)),
    LangConfig(unknown=UnknownConfig(), subwords=SubwordConfig(min_words=3)),
], ids=["unknown", "subwords", "both"])
def test_transducers(config: LangConfig, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(CharTokenizer.Config(), AFFIXED)
    lang = prepare(tokenizer, config, AFFIXED, tmp_path)
    model = random_model(3, vocabulary=tokenizer.vocab_size)
    search = build_search(FastBeam.Config(graph="LG", beam=40, max_states=300), model, tokenizer, lang)
    acceptor = Acceptor(lang.fst("LG"))
    for (found,) in search.decode(random_encoder_out(2, lens=(20, 24, 9))):
        match = acceptor.match(found.tokens)
        assert match is not None and match.score == pytest.approx(found.scores["graph"], abs=1e-3)
        assert " ".join(found.words) == tokenizer.decode(found.tokens) and found.words


def test_words_of_a_graph() -> None:
    tokenizer = train_tokenizer(CharTokenizer.Config(), ["ab"])
    tokens = tokenizer.encode("ab ba a")
    frames = list(range(0, 2 * len(tokens), 2))
    units, unit_frames = ["a‿", "‿b", "<spelled>", "a"], [2, 4, 12, 16]
    assert graph_words(tokenizer, units, unit_frames, tokens, frames) == (("ab", "ba", "a"), (2, 8, 14))
    assert graph_words(tokenizer, units[2:], unit_frames[2:], tokens, frames) == (("<unk>", "a"), (12, 16)), "more words than it told"
    assert graph_words(tokenizer, [], [], [], []) == ((), ())
