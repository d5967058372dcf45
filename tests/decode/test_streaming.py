"""Searches that take the frames piece by piece, against the same searches over whole utterances."""
from __future__ import annotations

import pytest
import torch

from asr.decode import SEARCHES, StreamingSearch, build_search
from asr.decode.search import Unavailable
from asr.types import EncoderOut
from tests.decode.models import random_encoder_out, random_model
from tests.decode.words import TOKENIZER

SCORERS = {"hot": {"type": "hotwords", "phrases": {"ab a": 1.0, "b": 0.5}}, "length": {"type": "length", "scale": 0.3}}
GREEDY, BEAM = {"type": "greedy"}, {"type": "modified_beam", "scorers": SCORERS}
CTC = [{"type": "ctc_greedy"}, {"type": "ctc_prefix_beam", "beam": 5, "scorers": SCORERS}]


def search_and_frames(settings, durations=(), predictor="stateless"):
    model = random_model(3, predictor, durations=durations, vocabulary=TOKENIZER.vocab_size, sharpness=3.0)
    search = build_search(SEARCHES[settings["type"]].Config.model_validate(settings), model, TOKENIZER)
    return search, random_encoder_out(lens=(9, 40, 0, 1, 23, 40, 16))


def pieces(encoder_out: EncoderOut, seed: int) -> list[EncoderOut]:
    """Of random lengths, another for each utterance, some of them empty; frames beyond the lengths are huge."""
    generator = torch.Generator().manual_seed(seed)
    used_B, found = torch.zeros_like(encoder_out.lens_B), []
    while bool((used_B < encoder_out.lens_B).any()):
        lens_B = torch.minimum(torch.randint(0, 14, used_B.shape, generator=generator), encoder_out.lens_B - used_B)
        frames_BSD = torch.full((len(lens_B), int(lens_B.max()), encoder_out.frames_BSD.shape[2]), 1e3)
        for b, (used, length) in enumerate(zip(used_B.tolist(), lens_B.tolist())):
            frames_BSD[b, :length] = encoder_out.frames_BSD[b, used : used + length]
        found.append(EncoderOut(frames_BSD, lens_B))
        used_B = used_B + lens_B
    return found


@pytest.mark.parametrize("settings, durations, predictor", [
    (GREEDY, (), "stateless"), (GREEDY, (0, 1, 2, 4), "lstm"), ({**GREEDY, "max_symbols_per_frame": 3}, (), "stateless"),
    (BEAM, (), "lstm"), (BEAM, (0, 1, 2, 4), "stateless"), ({**BEAM, "max_symbols_per_frame": 2}, (), "stateless"),
    ({**GREEDY, "skip_blank": 0.6}, (), "stateless"), ({**BEAM, "skip_blank": 0.6}, (), "stateless"), (CTC[0], (), "stateless"),
    (CTC[1], (), "stateless"),
])
def test_pieces_equal_the_whole(settings, durations, predictor):
    search, encoder_out = search_and_frames(settings, durations, predictor)
    assert isinstance(search, StreamingSearch)
    expected = search.decode(encoder_out)
    assert sum(len(hypotheses[0].tokens) for hypotheses in expected) > 15
    for seed in range(2):
        state = search.start(len(encoder_out.lens_B))
        so_far = search.hypotheses(state)
        assert [hypotheses[0].tokens for hypotheses in so_far] == [()] * len(expected)
        for piece in pieces(encoder_out, seed):
            state = search.advance(piece, state)
        so_far = search.hypotheses(state)
        results = search.finish(state)
        for result, before, wanted in zip(results, so_far, expected):
            assert [(h.tokens, h.frames, h.durations) for h in result] == [(h.tokens, h.frames, h.durations) for h in wanted]
            assert [h.score for h in result] == pytest.approx([h.score for h in wanted], abs=1e-3)
            for h, w in zip(result, wanted):
                assert h.confidences == pytest.approx(w.confidences, abs=1e-4)
                assert h.scores == pytest.approx(w.scores, abs=1e-3)
            if not durations and settings["type"] in ("greedy", "ctc_greedy"):
                assert before == result


@pytest.mark.parametrize("settings", [GREEDY, {**BEAM, "beam": 5}], ids=["greedy", "beam"])
def test_skipped_blanks_are_as_if_they_had_not_been(settings):
    plain, encoder_out = search_and_frames(settings)
    skipping, _ = search_and_frames({**settings, "skip_blank": 0.2})
    blank_BS = skipping.model.ctc_log_probs(encoder_out)[..., 0].exp()
    skipped = 0
    for b, result in enumerate(skipping.decode(encoder_out)):
        length = int(encoder_out.lens_B[b])
        kept = [s for s in range(length) if blank_BS[b, s] <= 0.2]
        skipped += length - len(kept)
        ((expected, *_),) = plain.decode(EncoderOut(encoder_out.frames_BSD[b : b + 1, kept], torch.tensor([len(kept)])))
        assert result[0].tokens == expected.tokens
        assert result[0].frames == tuple(kept[frame] for frame in expected.frames)
        assert result[0].confidences == pytest.approx(expected.confidences, abs=1e-4)
    assert 10 < skipped < 100
    nothing, _ = search_and_frames({**settings, "skip_blank": 1e-9})
    assert all(result[0].tokens == () for result in nothing.decode(encoder_out))


def test_who_cannot_skip_blanks():
    with pytest.raises(Unavailable, match="skips frames itself"):
        search_and_frames({**GREEDY, "skip_blank": 0.9}, durations=(0, 1, 2))
