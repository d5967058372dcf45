"""Streaming encoders with streaming searches, and recordings cut at pauses."""
from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from asr.decode import streaming
from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from asr.decode.words import Part, joined_parts, to_text
from asr.models.conformer import Conformer
from asr.types import EncoderOut, Hypothesis
from tests.decode.models import DIM, random_model
from tests.decode.words import TOKENIZER


def recogniser_of(causal: bool):
    model = random_model(3, vocabulary=TOKENIZER.vocab_size, sharpness=3.0)
    torch.manual_seed(0)
    chunks = {"causal": True, "chunk_sizes": (8,), "left_frames": (16,)} if causal else {}
    config = Conformer.Config(dim=DIM, layers=2, heads=2, feedforward=16, kernel=5, subsampling={"channels": 2}, **chunks)
    model.encoder = Conformer(config, 8)
    model.encode = lambda features_BTF, lens_B: model.encoder(features_BTF, lens_B)
    return SimpleNamespace(model=model.eval(), tokenizer=TOKENIZER, frame_shift=0.01)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"type": "greedy"}, {"type": "modified_beam", "beam": 3}], ids=["greedy", "beam"])
def test_streaming_equals_decoding_whole_utterances(settings):
    recogniser = recogniser_of(causal=True)
    model, search_of = recogniser.model, {"greedy": Greedy, "modified_beam": ModifiedBeam}[settings["type"]]
    search = search_of(search_of.Config.model_validate(settings), model, TOKENIZER)
    features_BTF, lens_B = torch.randn(4, 200, 8), torch.tensor([200, 3, 131, 64])
    expected = search.decode(model.encode(features_BTF, lens_B))
    assert sum(len(hypotheses[0].tokens) for hypotheses in expected) > 10
    for frames in (7, 50, 200):
        pieces = streaming.encode(model, streaming.split(features_BTF, lens_B, frames), 4)
        for result, wanted in zip(streaming.decode(search, pieces, 4), expected):
            assert [(h.tokens, h.frames) for h in result] == [(h.tokens, h.frames) for h in wanted]
            assert [h.score for h in result] == pytest.approx([h.score for h in wanted], abs=1e-2)
    alone = streaming.recognise(recogniser, search, features_BTF[0].split(60), 0.0, 20.0)
    assert (alone.tokens, alone.frames) == (expected[0][0].tokens, expected[0][0].frames)


def test_who_can_stream():
    able, offline = (recogniser_of(causal=causal).model for causal in (True, False))
    assert streaming.can_stream(able) and not streaming.can_stream(offline)
    able.frontend = torch.nn.Embedding(2, 8)
    assert not streaming.can_stream(able)
    with pytest.raises(ValueError, match="causal"):
        list(streaming.encode(offline, [(torch.zeros(1, 9, 8), torch.tensor([9]))], 1))


def recording() -> torch.Tensor:
    """105 s of noise in 20 bins, with half a second of silence every 7 s."""
    features_TF = torch.randn(10500, 20)
    for second in range(7, 105, 7):
        features_TF[100 * second - 25 : 100 * second + 25] -= 20.0
    return features_TF


def test_windows_are_cut_in_pauses_and_cover_the_recording():
    features_TF = recording()
    found = list(streaming.windows(features_TF.split(999), 0.01, 4))
    assert [window.begin for window in found[1:]] == [window.end for window in found[:-1]]
    assert found[0].begin == 0 and found[-1].end >= 10500
    for window in found[:-1]:
        assert window.end % 4 == 0 and abs(window.end - 700 * round(window.end / 700)) < 25, "in the middle of a pause"
        assert window.end - window.begin <= 3000
    for window in found:
        torch.testing.assert_close(window.features_TF, features_TF[window.first : window.first + len(window.features_TF)])
        assert window.first in (max(window.begin - 200, 0), window.begin - 200)
        assert window.first + len(window.features_TF) in (window.end + 200, 10500)
    assert [w.end for w in streaming.windows([features_TF[:700]], 0.01, 4)] == [704]


@torch.no_grad()
def test_a_recording_in_parts_equals_the_whole():
    """Of an encoder that sees but a second around each frame."""
    recogniser = recogniser_of(causal=False)
    model = recogniser.model

    def encode(features_BTF, lens_B):
        frames_BSD = features_BTF[:, :: model.encoder.subsampling, :DIM].clone()
        frames_BSD[frames_BSD < -10] = 0.0
        return EncoderOut(frames_BSD, (lens_B + model.encoder.subsampling - 1) // model.encoder.subsampling)

    model.encode = encode
    model.predictor.embedding.weight.zero_()  # without a memory that parts do not share
    search = Greedy(Greedy.Config(), model)
    features_TF = recording()
    ((expected,),) = search.decode(encode(features_TF[None], torch.tensor([len(features_TF)])))
    found = streaming.recognise(recogniser, search, features_TF.split(1200), 0.0, 70.0)
    words = to_text(expected, TOKENIZER).split()
    assert len(words) > 100 and len(found.tokens) > 0.98 * len(expected.tokens)
    same = set(zip(expected.tokens, expected.frames)) & set(zip(found.tokens, found.frames))
    assert len(same) == len(found.tokens), "what is found is found where it is"
    assert len(set(to_text(found, TOKENIZER).split()) - set(words)) <= 6, "but for words that a cut divides"


def test_parts_are_joined_by_where_words_begin():
    def part(text: str, frames: tuple[int, ...], first: int, begin: int, end: int) -> Part:
        tokens = tuple(TOKENIZER.encode(text))
        return Part(Hypothesis(tokens, -1.0, {"model": -1.0}, frames, tuple(0.5 for _ in tokens)), first, begin, end)

    found = joined_parts([part("ab a b", (1, 3, 8, 12), 0, 0, 10), part("a b ba", (0, 4, 8, 10), 8, 10, 40)], TOKENIZER)
    assert found.words == ("ab", "a", "b", "ba") and found.word_frames == (1, 8, 12, 16)
    assert found.frames == (1, 3, 8, 12, 16, 18) and len(found.confidences) == 6 and found.score == -2.0
    assert to_text(found, TOKENIZER) == "ab a b ba"
