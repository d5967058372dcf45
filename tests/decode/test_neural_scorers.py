"""Neural language models, the internal one, density ratios, and rescoring, each against the slow way to the same number."""
from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from asr.decode import SearchConfig, build_search
from asr.decode.neural_scorers import InternalLm, NeuralLmScorer
from asr.decode.rescore import total_scores
from asr.decode.scorers import SCORERS
from asr.decode.search import Unavailable
from asr.lm import estimate, read_arpa, write_arpa
from asr.lm.neural import NeuralLm, load_lm, save_lm
from asr.models.predictors import PREDICTORS
from asr.types import BLANK
from tests.decode.models import VOCABULARY, both_log_probs, log_probs, one_by_one, random_encoder_out, random_model

SYMBOLS = ["<blk>", *"abcdef"]
TOKENIZER = SimpleNamespace(vocab_size=VOCABULARY, symbols=SYMBOLS)
LMS = {"rnn_lm": {"type": "lstm", "dim": 6},
       "transformer_lm": {"type": "transformer", "dim": 8, "layers": 1, "heads": 2, "feedforward": 8, "context": 3}}
ALL: dict[str, dict[str, Any]] = {
    "rnn": {"type": "neural_lm", "lm": "rnn_lm", "scale": 0.4},
    "transformer": {"type": "neural_lm", "lm": "transformer_lm", "scale": 0.3, "final": False},
    "lodr": {"type": "ngram", "arpa": "transcripts.arpa", "scale": -0.2},
    "internal": {"type": "internal_lm", "scale": -0.3},
    "length": {"type": "length", "scale": 0.5},
}
SEQUENCES = [tokens for n in range(4) for tokens in itertools.product(range(1, VOCABULARY), repeat=n)]


@pytest.fixture(scope="module")
def lang(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lang")
    torch.manual_seed(0)
    for name, values in LMS.items():
        config = PREDICTORS[values["type"]].Config.model_validate(values)
        lm = NeuralLm(config, VOCABULARY)
        with torch.no_grad():
            lm.output.weight *= 4
        save_lm(directory / name / "lm.pt", config, SYMBOLS, lm.state_dict())
    sentences = [[SYMBOLS[i] for i in torch.randint(1, VOCABULARY, (n,)).tolist()] for n in range(1, 30)]
    write_arpa(estimate(sentences, order=2, vocabulary=SYMBOLS[1:]), directory / "transcripts.arpa")
    return SimpleNamespace(directory=directory)


def search(values: dict[str, Any], model: Any, lang: Any) -> Any:
    return build_search(TypeAdapter(SearchConfig).validate_python(values), model, TOKENIZER, lang)


@torch.no_grad()
def slow_score(name: str, tokens: tuple[int, ...], model: Any, lang: Any) -> float:
    """What one scorer of ALL says of a whole sequence, without states."""
    values = ALL[name]
    if name == "length":
        return float(len(tokens))
    if name == "internal":
        zeros_D = torch.zeros(model.joiner.encoder_proj.in_features)
        predictions_UV = [log_probs(model, zeros_D, list(tokens[:u]))[1:].log_softmax(-1) for u in range(len(tokens))]
        return sum(float(prediction_V[token - 1]) for prediction_V, token in zip(predictions_UV, tokens))
    if name == "lodr":
        return float(read_arpa(lang.directory / values["arpa"]).score([[SYMBOLS[token] for token in tokens]])[0].sum()) * math.log(10)
    log_probs_UV = load_lm(lang.directory / values["lm"] / "lm.pt", SYMBOLS)(torch.tensor([tokens]).long())[0]
    labels = [*tokens, BLANK] if values.get("final", True) else list(tokens)
    return sum(float(log_probs_UV[u, label]) for u, label in enumerate(labels))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("predictor, hat", [("stateless", False), ("lstm", False), ("stateless", True)])
def test_each_scorer_says_of_every_short_sequence_what_the_slow_way_says(name, predictor, hat, lang):
    model = random_model(3, predictor)
    model.joiner.blank_apart = hat
    scorer_class = SCORERS[ALL[name]["type"]]
    scorer = scorer_class(scorer_class.Config.model_validate(ALL[name]), TOKENIZER, lang, model)
    some = SEQUENCES[::9]
    with torch.no_grad():
        found = total_scores(scorer, some, torch.device("cpu")).tolist()
    assert found == pytest.approx([slow_score(name, tokens, model, lang) for tokens in some], abs=1e-3)


@torch.no_grad()
def enumerated(model: Any, frames_SD: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Log-probability of every token sequence, summed over all alignments of a token per frame at most; TDT: over all durations, too."""
    totals: dict[tuple[int, ...], float] = {}
    durations = model.joiner.durations or (0,)

    def go(frame: int, tokens: tuple[int, ...], score: float) -> None:
        if frame >= len(frames_SD):
            totals[tokens] = math.log(math.exp(totals.get(tokens, -math.inf)) + math.exp(score))
            return
        token_V, duration_L = both_log_probs(model, frames_SD[frame], tokens)
        for token in range(VOCABULARY):
            for index, duration in enumerate(durations):
                lasting = float(duration_L[index]) if model.joiner.durations else 0.0
                go(frame + max(duration, 1), (*tokens, token) if token else tokens, score + float(token_V[token]) + lasting)

    go(0, (), 0.0)
    return totals


@pytest.mark.parametrize("durations", [(), (1, 2)], ids=["rnnt", "tdt"])
@pytest.mark.parametrize("names", [list(ALL), ["rnn"], ["transformer", "internal"], ["rnn", "lodr"]], ids="+".join)
def test_a_wide_beam_finds_every_sequence_with_the_sum_of_its_parts(names, durations, lang):
    """Exhaustive search: the model's score of all alignments, and each scorer's of the sequence, times its scale."""
    model, encoder_out = random_model(5, durations=durations), random_encoder_out(lens=(2,))
    scorers = {name: ALL[name] for name in names}
    (found,) = search({"type": "modified_beam", "beam": VOCABULARY**3, "scorers": scorers}, model, lang).decode(encoder_out)
    expected = enumerated(model, encoder_out.frames_BSD[0])
    assert {h.tokens for h in found} == expected.keys()
    for h in found[:: max(1, len(found) // 12)]:
        parts = {name: slow_score(name, h.tokens, model, lang) for name in names}
        assert {name: h.scores[name] for name in names} == pytest.approx(parts, abs=1e-3)
        assert h.scores["model"] == pytest.approx(expected[h.tokens], abs=1e-3)
        assert h.score == pytest.approx(expected[h.tokens] + sum(ALL[name]["scale"] * part for name, part in parts.items()), abs=1e-3)


@pytest.mark.parametrize("durations", [(), (0, 1, 2)], ids=["rnnt", "tdt"])
@pytest.mark.parametrize("rescored", [False, True], ids=["beam", "rescore"])
def test_batched_equals_one_by_one(rescored, durations, lang):
    values: dict[str, Any] = {"type": "modified_beam", "beam": 4, "scorers": ALL}
    if rescored:
        values = {"type": "rescore", "first": {"type": "modified_beam"}, "scorers": ALL}
    model, encoder_out = random_model(4, durations=durations), random_encoder_out()
    found = search(values, model, lang)
    for together, alone in zip(found.decode(encoder_out), one_by_one(encoder_out)):
        expected = found.decode(alone)[0]
        assert [h.tokens for h in together] == [h.tokens for h in expected]
        assert [h.score for h in together] == pytest.approx([h.score for h in expected], abs=1e-3)
        assert together[0].confidences == pytest.approx(expected[0].confidences, abs=1e-4)


@pytest.mark.parametrize("first", [
    {"type": "modified_beam", "beam": 6}, {"type": "modified_beam", "scorers": {"reward": {"type": "length", "scale": 0.2}}},
    {"type": "greedy"}, {"type": "ctc_greedy"},
], ids=["beam", "scored beam", "greedy", "ctc"])
def test_a_second_pass_adds_scores_and_ranks_again(first, lang):
    model, encoder_out = random_model(1), random_encoder_out()
    before = search(first, model, lang).decode(encoder_out)
    scorers = {name: ALL[name] for name in ("transformer", "lodr")}
    after = search({"type": "rescore", "first": first, "scorers": scorers}, model, lang).decode(encoder_out)
    changed = 0
    for old, new in zip(before, after):
        expected = {h.tokens: h for h in old}
        assert {h.tokens for h in new} == expected.keys() and len(new) == len(old)
        for h in new:
            parts = {name: slow_score(name, h.tokens, model, lang) for name in ("transformer", "lodr")}
            assert h.scores == pytest.approx({**expected[h.tokens].scores, **parts}, abs=1e-3)
            assert h.score == pytest.approx(expected[h.tokens].score + 0.3 * parts["transformer"] - 0.2 * parts["lodr"], abs=1e-3)
        context = 2 if first["type"] == "modified_beam" else None
        ranks = [h.score / (len(h.tokens) + context) if context else h.score for h in new]
        assert ranks == sorted(ranks, reverse=True)
        changed += [h.tokens for h in new] != [h.tokens for h in old]
    assert changed or "beam" not in first["type"]


def test_with_scales_of_zero_a_second_pass_changes_nothing(lang):
    model, encoder_out = random_model(2), random_encoder_out()
    before = search({"type": "modified_beam"}, model, lang).decode(encoder_out)
    none = {"rnn": {**ALL["rnn"], "scale": 0.0}}
    after = search({"type": "rescore", "first": {"type": "modified_beam"}, "scorers": none}, model, lang).decode(encoder_out)
    for old, new in zip(before, after):
        assert [h.tokens for h in new] == [h.tokens for h in old]
        assert new[0].confidences == pytest.approx(old[0].confidences, abs=1e-6)
        assert replace(new[0], scores=old[0].scores, confidences=old[0].confidences) == old[0]


def test_what_a_second_pass_refuses():
    def check(values: dict[str, Any]) -> None:
        TypeAdapter(SearchConfig).validate_python({"type": "rescore", **values})

    with pytest.raises(ValueError, match="first.blank_penalty"):
        check({"first": {"type": "greedy", "tune": {"blank_penalty": [1]}}, "scorers": {}})
    with pytest.raises(ValueError, match="another name"):
        check({"first": {"type": "modified_beam", "scorers": {"rnn": ALL["rnn"]}}, "scorers": {"rnn": ALL["rnn"]}})
    with pytest.raises(ValueError, match="neither a key of the first pass"):
        check({"first": {"type": "greedy"}, "scorers": {"rnn": ALL["rnn"]}, "tune": {"scorers.rnn.final": [0, 1]}})
    with pytest.raises(ValueError, match="rescore"):
        check({"first": {"type": "rescore"}, "scorers": {}})


def test_what_is_not_there_is_said_in_one_line(lang):
    with pytest.raises(Unavailable, match="other_lm is not in .*: 'asr train-lm' trains"):
        NeuralLmScorer(NeuralLmScorer.Config(lm="other_lm"), TOKENIZER, lang)
    with pytest.raises(Unavailable, match="inside a transducer"):
        InternalLm(InternalLm.Config(), TOKENIZER, lang)
