from __future__ import annotations

import pytest
import torch

from asr.decode.ctc_greedy import CtcGreedy
from asr.decode.search import Unavailable
from asr.types import EncoderOut
from tests.decode.models import one_by_one, random_encoder_out, random_model


def slow_ctc(log_probs_SV):
    """(tokens, frames, confidences, score), frame by frame."""
    tokens, frames, confidences, score, previous = [], [], [], 0.0, 0
    for s, row_V in enumerate(log_probs_SV):
        best, token = row_V.max(0)
        score += float(best)
        if token != 0 and token == previous:
            confidences[-1] = max(confidences[-1], float(best.exp()))
        elif token != 0:
            tokens.append(int(token))
            frames.append(s)
            confidences.append(float(best.exp()))
        previous = token
    return tokens, frames, confidences, score


@torch.no_grad()
def test_equals_frame_by_frame():
    model, encoder_out = random_model(2, sharpness=1.0), random_encoder_out(lens=(9, 40, 1, 23))
    encoder_out.frames_BSD[1, 10:14] = encoder_out.frames_BSD[1, 9]  # a run of one token
    repeats = 0
    for result, alone in zip(CtcGreedy(CtcGreedy.Config(), model).decode(encoder_out), one_by_one(encoder_out)):
        log_probs_SV = model.ctc_log_probs(alone)[0]
        tokens, frames, confidences, score = slow_ctc(log_probs_SV)
        (h,) = result
        assert (list(h.tokens), list(h.frames)) == (tokens, frames)
        assert h.confidences == pytest.approx(confidences, abs=1e-5)
        assert h.score == pytest.approx(score, abs=1e-3)
        repeats += int((log_probs_SV.argmax(1) != 0).sum()) - len(tokens)
    assert repeats > 3


def test_no_frames_give_nothing():
    (result,) = CtcGreedy(CtcGreedy.Config(), random_model()).decode(EncoderOut(torch.randn(1, 4, 12), torch.tensor([0])))
    assert result[0].tokens == () and result[0].score == 0.0


def test_a_model_without_a_ctc_head_cannot():
    model = random_model()
    model.ctc = None
    with pytest.raises(Unavailable, match="no CTC head"):
        CtcGreedy(CtcGreedy.Config(), model)
