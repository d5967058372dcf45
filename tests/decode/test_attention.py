"""The attention decoder as a second pass, against one path at a time; after a chunked first pass (U2), too."""
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from asr.decode import SearchConfig, attention, build_search, streaming
from asr.decode.search import Unavailable
from asr.models.attention_decoder import AttentionDecoder
from asr.types import EncoderOut
from tests.decode.models import DIM, VOCABULARY, one_by_one, random_encoder_out, random_model
from tests.decode.test_long_recordings import recogniser_of
from tests.models.test_attention_decoder import slow_log_prob

TOKENIZER = SimpleNamespace(vocab_size=VOCABULARY, symbols=["<blk>", *"abcdef"])
SCORERS = {"attention": {"type": "attention"}}
RESCORED: dict[str, Any] = {"type": "rescore", "first": {"type": "modified_beam", "beam": 5}, "scorers": SCORERS}


def with_attention(model: Any, vocabulary: int = VOCABULARY) -> Any:
    torch.manual_seed(7)
    model.attention = AttentionDecoder(AttentionDecoder.Config(dim=16, layers=1, heads=2, feedforward=16), DIM, vocabulary)
    with torch.no_grad():
        model.attention.output_linear.weight *= 4
    return model.eval()


def search(values: dict[str, Any], model: Any) -> Any:
    return build_search(TypeAdapter(SearchConfig).validate_python(values), model, TOKENIZER)


@pytest.mark.parametrize("at_once", [1, 2, 16])
@pytest.mark.parametrize("first", [
    {"type": "modified_beam", "beam": 5}, {"type": "ctc_prefix_beam", "beam": 5}, {"type": "greedy", "skip_blank": 0.3},
], ids=["beam", "ctc beam", "greedy"])
def test_hypotheses_are_ranked_again_with_what_the_decoder_says_of_each(first, at_once, monkeypatch):
    monkeypatch.setattr(attention, "PATHS", at_once)
    model, encoder_out = with_attention(random_model(1)), random_encoder_out()
    scorers = {"att": {"type": "attention", "scale": 0.7}, "length": {"type": "length", "scale": 0.5}}
    before = search(first, model).decode(encoder_out)
    after = search({"type": "rescore", "first": first, "scorers": scorers}, model).decode(encoder_out)
    for old, new, alone in zip(before, after, one_by_one(encoder_out)):
        expected = {h.tokens: h for h in old}
        assert {h.tokens for h in new} == expected.keys() and len(new) == len(old)
        for h in new:
            said = slow_log_prob(model.attention, list(h.tokens), alone.frames_BSD[0])
            parts = {**expected[h.tokens].scores, "att": said, "length": float(len(h.tokens))}
            assert h.scores == pytest.approx(parts, abs=1e-3)
            assert h.score == pytest.approx(expected[h.tokens].score + 0.7 * said + 0.5 * len(h.tokens), abs=1e-3)
    if len(before[0]) > 1:
        assert [h[0].tokens for h in before] != [h[0].tokens for h in after]


@torch.no_grad()
def test_a_streaming_first_pass_and_rescoring_at_the_end_are_decoding_whole_utterances():
    recogniser = recogniser_of(causal=True)
    model = with_attention(recogniser.model, recogniser.tokenizer.vocab_size)
    second = build_search(TypeAdapter(SearchConfig).validate_python(RESCORED), model, recogniser.tokenizer)
    features_BTF, lens_B = torch.randn(3, 160, 8), torch.tensor([160, 131, 64])
    expected = second.decode(model.encode(features_BTF, lens_B))
    pieces = list(streaming.encode(model, streaming.split(features_BTF, lens_B, 50), 3))
    state = second.first.start(3)
    for piece in pieces:
        state = second.first.advance(piece, state)
    whole: EncoderOut = streaming.whole(pieces)
    found = second.rank(whole, second.paths(whole, second.first.finish(state)))
    assert sum(len(hypotheses[0].tokens) for hypotheses in expected) > 10
    for some, others in zip(found, expected):
        assert [h.tokens for h in some] == [h.tokens for h in others]
        assert [h.score for h in some] == pytest.approx([h.score for h in others], abs=1e-2)
        assert [h.scores["attention"] for h in some] == pytest.approx([h.scores["attention"] for h in others], abs=1e-3)


def test_who_cannot_rescore_with_it():
    with pytest.raises(Unavailable, match="no attention decoder: train it with 'model.attention: {}'"):
        search(RESCORED, random_model())
    with pytest.raises(ValueError, match="modified_beam.scorers.a"):
        search({"type": "modified_beam", "scorers": {"a": {"type": "attention"}}}, random_model())
