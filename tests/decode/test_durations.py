"""Searches of models with learnt durations (TDT), against paths walked one by one."""
from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from asr.decode import SEARCHES, build_search
from asr.decode.fast_beam import FastBeam
from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from asr.decode.search import Unavailable
from asr.types import EncoderOut
from tests.decode.models import DIM, TOKENIZER, both_log_probs, one_by_one, random_encoder_out, random_model

DURATIONS = (0, 1, 2, 4)
SEARCH = pytest.mark.parametrize("settings", [{"type": "greedy"}, {"type": "modified_beam"}], ids=lambda s: s["type"])


def search_of(model, **settings):
    config = SEARCHES[settings["type"]].Config.model_validate(settings)
    return build_search(config, model, TOKENIZER)


def move(frame: int, emitted: int, token: int, duration: int, symbols: int, length: int) -> tuple[int, int]:
    """(frame, tokens emitted at it) after a token: blank takes a frame at least, and so does the last token that a frame may have."""
    if token and duration == 0 and emitted + 1 < symbols:
        return frame, emitted + 1
    return min(frame + max(duration, 1), length), 0


class Walker:
    """Log-probabilities of a model over the frames of one utterance, by frame and tokens, each computed once."""

    def __init__(self, model, frames_SD, blank_penalty: float = 0.0) -> None:
        self.model, self.frames_SD, self.blank_penalty = model, frames_SD, blank_penalty
        self.known: dict = {}

    def at(self, frame: int, tokens: tuple[int, ...]) -> tuple[list[float], dict[int, float]]:
        """Log-probabilities of tokens, and of durations by their frames ({0: 0.0} for an RNN-T)."""
        if (frame, tokens) not in self.known:
            values, durations = both_log_probs(self.model, self.frames_SD[frame], tokens, self.blank_penalty)
            lasting = dict(zip(self.model.joiner.durations, durations.tolist())) or {0: 0.0}
            self.known[frame, tokens] = values.tolist(), lasting
        return self.known[frame, tokens]


def slow_greedy(model, frames_SD, symbols: int, blank_penalty: float):
    """[(token, frame, duration)], score, frames visited."""
    walker, length = Walker(model, frames_SD, blank_penalty), len(frames_SD)
    frame = emitted = 0
    found, score, visited = [], 0.0, []
    while frame < length:
        values, durations = walker.at(frame, tuple(token for token, _, _ in found))
        token, duration = max(range(len(values)), key=values.__getitem__), max(durations, key=durations.__getitem__)
        score += values[token] + durations[duration]
        visited.append(frame)
        next_frame, emitted = move(frame, emitted, token, duration, symbols, length)
        found += [(token, frame, next_frame - frame)] if token else []
        frame = next_frame
    return found, score, visited


@torch.no_grad()
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
@pytest.mark.parametrize("durations, symbols, blank_penalty", [(DURATIONS, 3, 0.0), ((0, 1), 2, 0.5), ((1, 3), 5, 0.0), ((0, 2), 1, 0.0)])
def test_greedy_equals_a_walk(predictor, durations, symbols, blank_penalty):
    model, encoder_out = random_model(2, predictor, durations=durations), random_encoder_out(lens=(9, 40, 1, 16, 23, 8))
    results = Greedy(Greedy.Config(max_symbols_per_frame=symbols, blank_penalty=blank_penalty), model).decode(encoder_out)
    repeated = jumped = 0
    for (hypothesis,), alone in zip(results, one_by_one(encoder_out)):
        found, score, visited = slow_greedy(model, alone.frames_BSD[0], symbols, blank_penalty)
        assert list(zip(hypothesis.tokens, hypothesis.frames, hypothesis.durations)) == found
        assert hypothesis.score == pytest.approx(score, abs=1e-4)
        repeated += len(visited) - len(set(visited))
        jumped += len(alone.frames_BSD[0]) - len(set(visited))
    assert (repeated > 3) == (0 in durations and symbols > 1)
    assert (jumped > 10) == (max(durations) > 1)


def slow_beam(model, frames_SD, beam: int, symbols: int, reward: float = 0.0) -> dict[tuple[int, ...], float]:
    """Token tuples and their scores, by a dictionary of (frame, tokens emitted at it, tokens so far)."""
    walker, length = Walker(model, frames_SD), len(frames_SD)
    hypotheses = {(0, 0, ()): 0.0}
    while (now := min(hypotheses)[:2]) < (length, 0):
        pool: list[tuple[float, tuple]] = [(score, key) for key, score in hypotheses.items() if key[:2] != now]
        for (frame, emitted, tokens), score in hypotheses.items():
            if (frame, emitted) != now:
                continue
            values, durations = walker.at(frame, tokens)
            for token, value in enumerate(values):
                landings: dict[tuple[int, int], float] = {}
                for duration, log_prob in durations.items():
                    place = move(frame, emitted, token, duration, symbols, length)
                    landings[place] = landings.get(place, 0.0) + math.exp(log_prob)
                taken = tokens + ((token,) if token else ())
                total = score + value + (reward if token else 0.0)
                pool += [(total + math.log(prob), (*place, taken)) for place, prob in landings.items()]
        hypotheses = {}
        for score, key in sorted(pool, reverse=True)[:beam]:
            hypotheses[key] = math.log(math.exp(hypotheses[key]) + math.exp(score)) if key in hypotheses else score
    return {tokens: score for (_, _, tokens), score in hypotheses.items()}


@torch.no_grad()
@pytest.mark.parametrize("predictor", ["stateless", "lstm"])
@pytest.mark.parametrize(
    "durations, beam, symbols, reward",
    [(DURATIONS, 1, 10, 0), (DURATIONS, 4, 10, 0), (DURATIONS, 6, 1, 0), (DURATIONS, 5, 2, 0.4), ((1, 2), 4, 1, 0), ((), 4, 3, 0)],
)
def test_beam_equals_a_dictionary(predictor, durations, beam, symbols, reward):
    model, encoder_out = random_model(2, predictor, durations=durations), random_encoder_out(lens=(9, 14, 1, 14))
    scorers = {"length": {"type": "length", "scale": reward}} if reward else {}
    results = search_of(model, type="modified_beam", beam=beam, max_symbols_per_frame=symbols, scorers=scorers).decode(encoder_out)
    for result, alone in zip(results, one_by_one(encoder_out)):
        expected = slow_beam(model, alone.frames_BSD[0], beam, symbols, reward)
        assert {h.tokens: h.score for h in result} == pytest.approx(expected, abs=1e-3)
        for h in result:
            check_times(h, len(alone.frames_BSD[0]), symbols, bool(durations))
            if reward:
                assert h.scores["length"] == len(h.tokens)
                assert h.scores["model"] + reward * h.scores["length"] == pytest.approx(h.score, abs=1e-3)


def check_times(h, length: int, symbols: int, learnt: bool) -> None:
    """A token starts where the last one ended, or later, and none lasts beyond the utterance."""
    assert len(h.frames) == len(h.tokens) and all(h.frames.count(frame) <= symbols for frame in h.frames)
    if not learnt:
        assert h.durations is None
        return
    assert len(h.durations) == len(h.tokens) and sum(h.durations) <= length
    ends = [frame + duration for frame, duration in zip(h.frames, h.durations)]
    assert all(end <= start for end, start in zip(ends, [*h.frames[1:], length]))


def enumerated(model, frames_SD, symbols: int) -> dict[tuple[int, ...], float]:
    """Probabilities of token sequences: sums over all paths of (token, duration) pairs."""
    walker, length = Walker(model, frames_SD), len(frames_SD)
    totals: dict[tuple[int, ...], float] = {}

    def walk(frame: int, emitted: int, tokens: tuple[int, ...], score: float) -> None:
        if frame == length:
            totals[tokens] = totals.get(tokens, 0.0) + math.exp(score)
            return
        values, durations = walker.at(frame, tokens)
        for token, value in enumerate(values):
            for duration, log_prob in durations.items():
                place = move(frame, emitted, token, duration, symbols, length)
                walk(*place, tokens + ((token,) if token else ()), score + value + log_prob)

    walk(0, 0, (), 0.0)
    return totals


@torch.no_grad()
@pytest.mark.parametrize(
    "durations, length, symbols", [((0, 1, 2), 3, 1), ((0, 1, 2), 3, 2), ((0, 2), 2, 3), ((1, 2, 3), 4, 1), ((), 3, 2)]
)
def test_a_wide_beam_equals_enumeration(durations, length, symbols):
    model, encoder_out = random_model(5, durations=durations, vocabulary=3), random_encoder_out(lens=(length,))
    totals = enumerated(model, encoder_out.frames_BSD[0], symbols)
    (result,) = search_of(model, type="modified_beam", beam=600, max_symbols_per_frame=symbols).decode(encoder_out)
    assert {h.tokens: math.exp(h.score) for h in result} == pytest.approx(totals, abs=1e-5)
    assert sum(totals.values()) == pytest.approx(1.0, abs=1e-5)


@torch.no_grad()
def test_scorers_add_to_every_sequence():
    model, encoder_out = random_model(5, durations=(0, 1, 2), vocabulary=3), random_encoder_out(lens=(3,))
    totals = enumerated(model, encoder_out.frames_BSD[0], 2)
    scorers = {"a": {"type": "length", "scale": 0.5}, "b": {"type": "length", "scale": -0.2}}
    config = ModifiedBeam.Config.model_validate({"beam": 600, "max_symbols_per_frame": 2, "scorers": scorers})
    (result,) = ModifiedBeam(config, model, SimpleNamespace(vocab_size=3)).decode(encoder_out)
    assert {h.tokens: h.score for h in result} == pytest.approx({y: math.log(p) + 0.3 * len(y) for y, p in totals.items()}, abs=1e-3)
    for h in result:
        assert h.scores["model"] == pytest.approx(math.log(totals[h.tokens]), abs=1e-3)


def test_the_way_of_many_moves_equals_that_of_one():
    """An RNN-T searched as if its hypotheses could be at different frames."""
    model, encoder_out = random_model(3), random_encoder_out()
    search = search_of(model, type="modified_beam", beam=5)
    expected = search.decode(encoder_out)
    search.topology.lockstep = False
    for result, wanted in zip(search.decode(encoder_out), expected):
        assert [(h.tokens, h.frames) for h in result] == [(h.tokens, h.frames) for h in wanted]
        assert [h.score for h in result] == pytest.approx([h.score for h in wanted], abs=1e-4)


@SEARCH
def test_one_duration_of_one_frame_is_an_rnnt(settings):
    rnnt, tdt, encoder_out = random_model(2), random_model(2, durations=(1,)), random_encoder_out()
    with torch.no_grad():
        for a, b in zip(rnnt.joiner.parameters(), tdt.joiner.parameters()):
            b[: len(a)] = a
        tdt.predictor.load_state_dict(rnnt.predictor.state_dict())
    for result, expected in zip(search_of(tdt, **settings).decode(encoder_out), search_of(rnnt, **settings).decode(encoder_out)):
        assert [(h.tokens, h.frames) for h in result] == [(h.tokens, h.frames) for h in expected]
        assert [h.score for h in result] == pytest.approx([h.score for h in expected], abs=1e-4)
        assert all(set(h.durations) <= {1} for h in result)


@SEARCH
@pytest.mark.parametrize("durations", [(), DURATIONS], ids=["rnnt", "tdt"])
def test_padding_and_company_change_nothing(settings, durations):
    model, encoder_out = random_model(4, durations=durations), random_encoder_out(lens=(9, 0, 23, 1, 16))
    frames_BSD = encoder_out.frames_BSD.clone()
    for b, n in enumerate(encoder_out.lens_B.tolist()):
        frames_BSD[b, n:] = math.nan
    search = search_of(model, **settings)
    together = search.decode(EncoderOut(frames_BSD, encoder_out.lens_B))
    assert (together[1][0].tokens, together[1][0].score) == ((), 0.0)
    for b, alone in enumerate(one_by_one(encoder_out)):
        expected = search.decode(alone)[0]
        assert [(h.tokens, h.frames, h.durations) for h in together[b]] == [(h.tokens, h.frames, h.durations) for h in expected]
        assert [h.score for h in together[b]] == pytest.approx([h.score for h in expected], abs=1e-3)
        assert together[b][0].confidences == pytest.approx(expected[0].confidences, abs=1e-5)


@SEARCH
def test_a_model_that_never_moves_on_is_moved(settings):
    """Ten tokens at each frame, then the next frame."""
    model = random_model(0, durations=(0, 3))
    with torch.no_grad():
        model.joiner.output_linear.weight.zero_()
        model.joiner.output_linear.bias.copy_(torch.tensor([0.0, 0, 9, 0, 0, 0, 0, 9, 0]))
    ((best, *_),) = search_of(model, **settings).decode(EncoderOut(torch.randn(1, 2, DIM), torch.tensor([2])))
    assert best.tokens == (2,) * 20 and best.frames == (0,) * 10 + (1,) * 10
    assert best.durations == ((0,) * 9 + (1,)) * 2


def test_fast_beam_says_what_to_use_instead():
    with pytest.raises(Unavailable, match="greedy or modified_beam"):
        FastBeam(FastBeam.Config(), random_model(durations=DURATIONS), TOKENIZER)
