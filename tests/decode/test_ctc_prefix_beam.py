from __future__ import annotations

import itertools
import math

import pytest
import torch

from asr.decode.ctc_greedy import CtcGreedy
from asr.decode.ctc_prefix_beam import CtcPrefixBeam
from asr.decode.hotwords import Hotwords
from asr.types import EncoderOut
from tests.decode.models import one_by_one, random_encoder_out, random_model
from tests.decode.test_hotwords import PHRASES, matches
from tests.decode.words import TOKENIZER, totals

SIZE = TOKENIZER.vocab_size
SCORERS = {"hot": {"type": "hotwords", "phrases": PHRASES, "scale": 0.7}, "length": {"type": "length", "scale": 0.3}}


def search_of(model, **settings) -> CtcPrefixBeam:
    return CtcPrefixBeam(CtcPrefixBeam.Config.model_validate(settings), model, TOKENIZER)


def log_probs_of(model, encoder_out, blank_penalty: float = 0.0):
    log_probs_SV = model.ctc_log_probs(encoder_out)[0].clone()
    log_probs_SV[:, 0] -= blank_penalty
    return log_probs_SV.log_softmax(-1)


def add(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def enumerated(log_probs_SV) -> dict[tuple[int, ...], float]:
    """Log-probabilities of token sequences: sums over all alignments."""
    found: dict[tuple[int, ...], float] = {}
    for labels in itertools.product(range(log_probs_SV.shape[1]), repeat=len(log_probs_SV)):
        tokens = tuple(label for label, _ in itertools.groupby(labels) if label)
        score = sum(float(row[label]) for row, label in zip(log_probs_SV, labels))
        found[tokens] = add(found.get(tokens, -math.inf), score)
    return found


def slow_beam(log_probs_SV, beam: int, bonus) -> dict[tuple[int, ...], float]:
    """By dictionaries of prefixes. bonus: what the scorers add to a prefix so far."""
    prefixes = {(): (0.0, -math.inf)}
    for row in log_probs_SV.tolist():
        grown: dict[tuple[int, ...], list[float]] = {}

        def put(prefix, place, score, grown=grown):
            scores = grown.setdefault(prefix, [-math.inf, -math.inf])
            scores[place] = add(scores[place], score)

        for prefix, (blank, token) in prefixes.items():
            put(prefix, 0, add(blank, token) + row[0])
            for label in range(1, len(row)):
                if prefix and label == prefix[-1]:
                    put(prefix, 1, token + row[label])
                    put((*prefix, label), 1, blank + row[label])
                else:
                    put((*prefix, label), 1, add(blank, token) + row[label])
        ranked = sorted(grown, key=lambda prefix: -add(*grown[prefix]) - bonus(prefix))
        prefixes = {prefix: tuple(grown[prefix]) for prefix in ranked[:beam]}
    return {prefix: add(*scores) for prefix, scores in prefixes.items() if add(*scores) > -math.inf}


def bonus_so_far(tokens: tuple[int, ...]) -> float:
    """As in the middle of a search: the bonus of hot words that may yet come is in it."""
    if tokens not in _bonuses:
        scorer = Hotwords(Hotwords.Config.model_validate(SCORERS["hot"]), TOKENIZER)
        state = scorer.automaton.start(1, "cpu")
        hot = totals(scorer, [tokens])[0]
        for token in tokens:
            state = scorer.automaton.advance(state, state.new_tensor([token]))
        _bonuses[tokens] = 0.7 * (hot - float(scorer.automaton.final(state))) + 0.3 * len(tokens)
    return _bonuses[tokens]


_bonuses: dict[tuple[int, ...], float] = {}


@torch.no_grad()
@pytest.mark.parametrize("blank_penalty", [0.0, 0.6])
@pytest.mark.parametrize("scorers", [{}, SCORERS], ids=["alone", "scorers"])
def test_a_wide_beam_equals_enumeration(scorers, blank_penalty):
    model, encoder_out = random_model(3, sharpness=2.0, vocabulary=SIZE), random_encoder_out(lens=(4, 3))
    results = search_of(model, beam=1500, scorers=scorers, blank_penalty=blank_penalty).decode(encoder_out)
    for result, alone in zip(results, one_by_one(encoder_out)):
        expected = enumerated(log_probs_of(model, alone, blank_penalty))
        if scorers:
            expected = {y: p + 0.7 * matches(y, PHRASES) + 0.3 * len(y) for y, p in expected.items()}
        assert {h.tokens: h.score for h in result} == pytest.approx(expected, abs=1e-3)
        assert [h.score for h in result] == sorted((h.score for h in result), reverse=True)
        for h in result:
            assert h.score == pytest.approx(sum(h.scores[n] * s for n, s in (("model", 1), ("hot", 0.7), ("length", 0.3)) if n in h.scores),
                                            abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 3, 8])
@pytest.mark.parametrize("scorers", [{}, SCORERS], ids=["alone", "scorers"])
def test_equals_a_dictionary_of_prefixes(scorers, beam):
    model, encoder_out = random_model(2, sharpness=2.0, vocabulary=SIZE), random_encoder_out(lens=(9, 23, 1, 16))
    results = search_of(model, beam=beam, scorers=scorers).decode(encoder_out)
    for result, alone in zip(results, one_by_one(encoder_out)):
        expected = slow_beam(log_probs_of(model, alone), beam, bonus_so_far if scorers else lambda prefix: 0.0)
        assert {h.tokens: h.scores["model"] for h in result} == pytest.approx(expected, abs=1e-3)
        for h in result:
            assert list(h.frames) == sorted(set(h.frames)) and all(f < len(alone.frames_BSD[0]) for f in h.frames)
            assert all(0 < c <= 1 for c in h.confidences)


@torch.no_grad()
@pytest.mark.parametrize("blanks, probability", [
    ((0.7, 0.6), 0.58),  # Graves, "Supervised sequence labelling with recurrent neural networks", 2012, section 7.4
    ((0.6, 0.6), 0.64),  # the mini example of Scheidl's CTCDecoder: 'a' by beam search, nothing by the best path
])
def test_published_examples_where_the_best_path_is_not_the_best_transcript(blanks, probability):
    model = random_model(vocabulary=SIZE)
    model.ctc_log_probs = lambda out: out.frames_BSD
    frames_1SV = torch.full((1, 2, SIZE), -1e4)
    frames_1SV[0, :, 0], frames_1SV[0, :, 1] = torch.tensor(blanks).log(), (1 - torch.tensor(blanks)).log()
    encoder_out = EncoderOut(frames_1SV, torch.tensor([2]))
    assert CtcGreedy(CtcGreedy.Config(), model, TOKENIZER).decode(encoder_out)[0][0].tokens == ()
    best, other = search_of(model, beam=2).decode(encoder_out)[0][:2]
    assert (best.tokens, other.tokens) == ((1,), ())
    assert math.exp(best.score) == pytest.approx(probability) and math.exp(other.score) == pytest.approx(math.prod(blanks))


@torch.no_grad()
def test_batched_equals_one_by_one_and_no_frames_give_nothing():
    model, encoder_out = random_model(4, sharpness=2.0, vocabulary=SIZE), random_encoder_out(lens=(9, 0, 23, 1, 16))
    search = search_of(model, beam=4, scorers=SCORERS)
    together = search.decode(encoder_out)
    assert together[1][0].tokens == () and together[1][0].score == pytest.approx(0.0)
    for result, alone in zip(together, one_by_one(encoder_out)):
        (expected,) = search.decode(alone)
        assert [(h.tokens, h.frames) for h in result] == [(h.tokens, h.frames) for h in expected]
        assert [h.score for h in result] == pytest.approx([h.score for h in expected], abs=1e-3)
        assert result[0].confidences == pytest.approx(expected[0].confidences, abs=1e-5)


@torch.no_grad()
def test_times_and_confidence_are_those_of_greedy_search_where_the_model_is_sure():
    model = random_model(2, vocabulary=SIZE)
    model.ctc_log_probs = lambda out: out.frames_BSD
    labels = [0, 2, 2, 0, 5, 5, 0, 5, 0, 0, 3, 4, 4, 4, 0, 2]
    logits_SV = torch.full((len(labels), SIZE), -4.0)
    logits_SV[torch.arange(len(labels)), torch.tensor(labels)] = torch.linspace(4.0, 6.0, len(labels))
    encoder_out = EncoderOut(logits_SV.log_softmax(-1)[None], torch.tensor([len(labels)]))
    ((expected,),) = CtcGreedy(CtcGreedy.Config(), model).decode(encoder_out)
    found = search_of(model, beam=6).decode(encoder_out)[0][0]
    assert (found.tokens, found.frames) == (expected.tokens, expected.frames) == ((2, 5, 5, 3, 4, 2), (1, 4, 7, 10, 11, 15))
    assert found.confidences == pytest.approx(expected.confidences, abs=1e-6)
