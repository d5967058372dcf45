"""Searches over graphs by all engines: batched against one by one, and against exhaustive search."""
from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from asr import fsa, hypotheses
from asr.decode.ctc_graph import CtcGraph
from asr.decode.driver import LOWEST_SCORE, Driver, Recogniser, Reference, Split
from asr.decode.fast_beam import FastBeam
from asr.lang import openfst
from asr.lang.fst import Fst
from asr.lang.operations import compose_ctc
from asr.tokens import Tokenizer
from asr.types import Batch, EncoderOut
from tests.decode.models import DIM, log_probs, one_by_one, random_encoder_out, random_model

WITHOUT_K2 = "k2 is not installed: this is the modern stack without it"
needs_k2 = pytest.mark.skipif(not fsa.available(), reason=WITHOUT_K2)
ENGINES = [pytest.param("k2", marks=needs_k2), "numpy"]

LEXICON = {1: (1, 2), 2: (1, 3), 3: (4,), 4: (5, 6, 2)}
WORDS = ["<eps>", "one", "two", "three", "four", "#0"]
LOG_PROBS = {1: math.log(0.4), 2: math.log(0.3), 3: math.log(0.2), 4: math.log(0.1)}


class WordTokens:
    """Tokens 1, 4 and 5 begin words."""

    vocab_size = 7

    word_spans = Tokenizer.word_spans
    _span = Tokenizer._span
    spell = Tokenizer.spell
    decode = Tokenizer.decode
    symbols = units = ["<blk>", "▁a", "b", "c", "▁d", "▁e", "f"]


class Lang:
    """A unigram over four words, as LG without epsilons and HLG; the word is told on the last token of each."""

    def __init__(self, directory):
        self.directory = directory
        self.words = WORDS
        arcs, scores, state = [], [], 2
        for word, tokens in LEXICON.items():
            source = 0
            for token in tokens[:-1]:
                arcs.append((source, state, token, 0))
                scores.append(0.0)
                source, state = state, state + 1
            arcs.append((source, 0, tokens[-1], word))
            scores.append(LOG_PROBS[word])
        final = state
        arcs.append((0, final, -1, -1))
        scores.append(math.log(0.5))
        lg = Fst.from_arcs([(s - (s > 1), d - (d > 1), t, w) for s, d, t, w in arcs], scores)
        lg.save(directory / "LG.pt")
        compose_ctc(lg, modified=False).save(directory / "HLG.pt")


@pytest.fixture(scope="module")
def lang(tmp_path_factory):
    return Lang(tmp_path_factory.mktemp("lang"))


def sentences(longest: int):
    for n in range(longest + 1):
        for words in itertools.product(LEXICON, repeat=n):
            tokens = [token for word in words for token in LEXICON[word]]
            if len(tokens) <= longest:
                yield words, tokens


def graph_score(words) -> float:
    return sum(LOG_PROBS[word] for word in words) + math.log(0.5)


def best_alignment(model, frames_SD, tokens) -> float:
    """Log-probability of the likeliest alignment with at most one token per frame."""
    scores = {0: 0.0}
    for frame_D in frames_SD:
        following: dict[int, float] = {}
        for u, score in scores.items():
            values = log_probs(model, frame_D, tokens[:u])
            for target, token in [(u, 0), (u + 1, tokens[u] if u < len(tokens) else None)]:
                if token is not None:
                    following[target] = max(following.get(target, -math.inf), score + float(values[token]))
        scores = following
    return scores.get(len(tokens), -math.inf)


@needs_k2
@torch.no_grad()
@pytest.mark.parametrize("n_best", [1, 3])
def test_fast_beam_over_lg_equals_exhaustive_search(lang, n_best):
    model = random_model(7, sharpness=3.0)
    config = FastBeam.Config(graph="LG", graph_scale=0.7, beam=100, max_contexts=100, max_states=1000, nbest=n_best)
    search = FastBeam(config, model, WordTokens(), lang)
    encoder_out = random_encoder_out(5, lens=(5, 6, 4, 6))
    for result, alone in zip(search.decode(encoder_out), one_by_one(encoder_out)):
        frames_SD = alone.frames_BSD[0]
        scored = {w: best_alignment(model, frames_SD, t) + 0.7 * graph_score(w) for w, t in sentences(len(frames_SD))}
        ranked = sorted(scored, key=scored.__getitem__, reverse=True)[:n_best]
        assert len(result) == n_best
        for h, words in zip(result, ranked):
            assert h.words == tuple(WORDS[word] for word in words)
            assert h.score == pytest.approx(scored[words], abs=1e-3)
            assert h.scores["graph"] == pytest.approx(0.7 * graph_score(words), abs=1e-3)
            assert h.tokens == tuple(token for word in words for token in LEXICON[word])
            assert h.word_frames == tuple(h.frames[first] for _, first, _ in WordTokens().word_spans(h.tokens))


def best_ctc(log_probs_SV, tokens) -> float:
    """Log-probability of the likeliest CTC path of ``tokens``, by enumeration of states (Graves et al., 2006, section 4.1, with max)."""
    states = [0]
    for token in tokens:
        states += [token, 0]
    scores = [-math.inf] * len(states)
    scores[0] = float(log_probs_SV[0, 0])
    if tokens:
        scores[1] = float(log_probs_SV[0, tokens[0]])
    for row in log_probs_SV[1:]:
        scores = [
            max(scores[max(i - 2, 0) if i > 1 and states[i] not in (0, states[i - 2]) else max(i - 1, 0) : i + 1]) + float(row[states[i]])
            for i in range(len(states))
        ]
    return max(scores[-2:])


@torch.no_grad()
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("acoustic_scale", [1.0, 2.5])
def test_ctc_graph_equals_exhaustive_search(lang, acoustic_scale, engine):
    model = random_model(8, sharpness=4.0)
    config = CtcGraph.Config(acoustic_scale=acoustic_scale, search_beam=200, output_beam=200, engine=engine)
    search = CtcGraph(config, model, WordTokens(), lang)
    encoder_out = random_encoder_out(5, lens=(5, 6, 4, 6))
    values_BSV = model.ctc_log_probs(encoder_out)
    for result, values_SV, n in zip(search.decode(encoder_out), values_BSV, encoder_out.lens_B.tolist()):
        scored = {w: acoustic_scale * best_ctc(values_SV[:n], t) + graph_score(w) for w, t in sentences(n)}
        best = max(scored, key=scored.__getitem__)
        (h,) = result
        assert h.words == tuple(WORDS[word] for word in best)
        assert h.tokens == tuple(token for word in best for token in LEXICON[word])
        assert h.score == pytest.approx(scored[best], abs=1e-3)
        assert acoustic_scale * h.scores["model"] + h.scores["graph"] == pytest.approx(h.score, abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("make", [
    pytest.param(lambda model, lang: FastBeam(FastBeam.Config(), model, WordTokens()), marks=needs_k2),
    pytest.param(lambda model, lang: FastBeam(FastBeam.Config(graph="LG"), model, WordTokens(), lang), marks=needs_k2),
    pytest.param(lambda model, lang: CtcGraph(CtcGraph.Config(engine="k2"), model, WordTokens(), lang), marks=needs_k2),
    lambda model, lang: CtcGraph(CtcGraph.Config(engine="numpy"), model, WordTokens(), lang),
])
def test_batched_equals_one_by_one(lang, make):
    search = make(random_model(9), lang)
    encoder_out = random_encoder_out(lens=(9, 23, 3, 16, 23))
    for result, alone in zip(search.decode(encoder_out), one_by_one(encoder_out)):
        expected = search.decode(alone)[0][0]
        assert (result[0].tokens, result[0].frames, result[0].words) == (expected.tokens, expected.frames, expected.words)
        assert result[0].confidences == pytest.approx(expected.confidences, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_beam_prunes_away_is_searched_again_with_a_wider_one(lang, engine):
    """The last frames contradict the first, so that a beam this narrow loses every path that can end."""
    model = random_model(10)
    with torch.no_grad():
        model.ctc.output_linear.weight.zero_()
        model.ctc.output_linear.bias.zero_()
        model.ctc.output_linear.weight[:, :7] = 20 * torch.eye(7)
    frames_SD = torch.zeros(2, DIM)
    frames_SD[0, 5] = 1.0
    frames_SD[1, 1] = 1.0
    encoder_out = EncoderOut(torch.stack([frames_SD, frames_SD]), torch.tensor([2, 2]))
    narrow = CtcGraph.Config(search_beam=6, output_beam=6, min_active_states=0, engine=engine)
    wide = CtcGraph.Config(search_beam=100, output_beam=100, engine=engine)
    found = CtcGraph(narrow, model, WordTokens(), lang).decode(encoder_out)
    expected = CtcGraph(wide, model, WordTokens(), lang).decode(encoder_out)
    assert [r[0].words for r in found] == [r[0].words for r in expected]
    for (h,) in CtcGraph(HOPELESS.model_copy(update={"engine": engine}), model, WordTokens(), lang).decode(encoder_out):
        assert h.score == -math.inf and h.words == () and h.tokens == ()


HOPELESS = CtcGraph.Config(search_beam=1, output_beam=1, min_active_states=0)
"""Where every frame contradicts the one before."""


def test_utterances_without_a_path_are_reported_by_id_and_written_empty(lang, tmp_path, caplog):
    model = random_model(10)
    model.encode = lambda features_BTF, lens_B, *neighbours: EncoderOut(features_BTF, lens_B)
    model.encoder = SimpleNamespace(subsampling=1)
    with torch.no_grad():
        model.ctc.output_linear.weight.zero_()
        model.ctc.output_linear.bias.zero_()
        model.ctc.output_linear.weight[:, :7] = 20 * torch.eye(7)
    features_BTF = torch.zeros(2, 2, DIM)
    features_BTF[:, 0, 5] = 1.0  # "▁e", which must be followed by "f" ...
    features_BTF[0, 1, 1] = 1.0  # ... but "▁a" comes
    features_BTF[1, 0, 5], features_BTF[1, :, 4] = 0.0, 1.0  # "▁d" is a word
    batch = Batch(features_BTF, torch.tensor([2, 2]), ("bad", "good"), ("four", "three"), (0.02, 0.02))
    recogniser = Recogniser(model, WordTokens(), lang, 0.01, "random", "digest")
    driver = Driver(recogniser, {"hlg": HOPELESS}, lambda config: CtcGraph(config, model, WordTokens(), lang), tmp_path / "tuned.json")
    references = {id: Reference(text, None, 0.02) for id, text in zip(batch.ids, batch.texts)}
    (outcome,) = driver.decode(Split("dev", references, "cuts", tmp_path), lambda: [batch], tune=False)
    assert outcome.wer == 50.0
    assert "no path for 1 utterances, left empty: bad" in caplog.text
    written = {u.id: u for u in hypotheses.read(tmp_path / "hlg.jsonl").utterances}
    assert written["bad"].hyp == "" and written["bad"].score == LOWEST_SCORE and written["good"].hyp == "three"


@torch.no_grad()
@pytest.mark.parametrize("engine", ENGINES)
def test_kaldi_decoder_finds_the_same_words(lang, tmp_path, engine):
    """Its labels count from 1, since its graphs have epsilons."""
    kaldifst = pytest.importorskip("kaldifst", reason="kaldifst is not installed")
    kaldi_decoder = pytest.importorskip("kaldi_decoder", reason="kaldi-decoder is not installed")
    pywrapfst = pytest.importorskip("pywrapfst", reason="pynini is not installed")
    hlg = Fst.load(lang.directory / "HLG.pt")
    arcs_A3 = hlg.arcs_A3.clone()
    arcs_A3[:, 2] += arcs_A3[:, 2] >= 0
    openfst.to_openfst(pywrapfst, replace(hlg, arcs_A3=arcs_A3)).write(str(tmp_path / "HLG.fst"))
    graph = kaldifst.StdVectorFst.read(str(tmp_path / "HLG.fst"))
    model, encoder_out = random_model(11), random_encoder_out(3, lens=(30, 12, 21, 4))
    search = CtcGraph(CtcGraph.Config(engine=engine, search_beam=50, output_beam=50), model, WordTokens(), lang)
    for result, values_SV, n in zip(search.decode(encoder_out), model.ctc_log_probs(encoder_out), encoder_out.lens_B.tolist()):
        decoder = kaldi_decoder.FasterDecoder(graph, kaldi_decoder.FasterDecoderOptions(beam=50.0, max_active=10000))
        decoder.decode(kaldi_decoder.DecodableCtc(values_SV[:n].numpy()))
        _, best = decoder.get_best_path()
        _, _, words, _ = kaldifst.get_linear_symbol_sequence(best)
        assert result[0].words == tuple(WORDS[word] for word in words) and words
