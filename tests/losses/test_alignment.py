"""CTC's forced alignment against every path; those of transducers are in test_tdt.py."""
from __future__ import annotations

import itertools

import pytest
import torch

from asr.losses import align_ctc
from asr.losses.alignment import NOWHERE
from asr.types import BLANK, EncoderOut, Targets
from tests.decode.models import random_encoder_out, random_model

LENS = (5, 3, 1, 4, 2)
TRANSCRIPTS = [[1, 1], [2, 3], [4], [], [3, 3]]
"""The last has no path: two equal tokens need three frames."""


def best_path(log_probs_SV: torch.Tensor, tokens: list[int]) -> tuple[float, tuple[int, ...]]:
    """The likeliest of all label sequences that spell ``tokens``."""
    found = (-float("inf"), ())
    labels = sorted({BLANK, *tokens})
    for path in itertools.product(labels, repeat=len(log_probs_SV)):
        if [label for label, _ in itertools.groupby(path) if label != BLANK] == tokens:
            found = max(found, (float(sum(log_probs_SV[s, label] for s, label in enumerate(path))), path))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_best_of_all_paths(seed: int) -> None:
    model, encoder_out = random_model(seed, sharpness=3.0), random_encoder_out(seed, LENS)
    found = align_ctc(model, encoder_out, Targets.from_lists(TRANSCRIPTS))
    log_probs_BSV = model.ctc_log_probs(encoder_out)
    for b, (frames, tokens) in enumerate(zip(LENS, TRANSCRIPTS)):
        score, path = best_path(log_probs_BSV[b, :frames].detach(), tokens)
        assert float(found.log_prob_B[b]) == pytest.approx(score, rel=1e-5)
        spelt = [BLANK] * frames
        for token, frame, duration in zip(tokens, found.frames_BU[b].tolist(), found.durations_BU[b].tolist()):
            assert (frame == NOWHERE) == (duration == NOWHERE) == (path == ())
            spelt[frame : frame + duration] = [token] * duration
        assert path == () or tuple(spelt) == path
        assert (found.frames_BU[b, len(tokens) :] == NOWHERE).all()


def test_a_batch_is_what_its_utterances_are_alone() -> None:
    model, encoder_out = random_model(5), random_encoder_out(5, (40, 25, 33))
    transcripts = [[1, 2, 2, 3, 5, 6], [4], [1, 1, 1, 1, 2, 3]]
    together = align_ctc(model, encoder_out, Targets.from_lists(transcripts))
    for b, tokens in enumerate(transcripts):
        n = int(encoder_out.lens_B[b])
        one = EncoderOut(encoder_out.frames_BSD[b : b + 1, :n], encoder_out.lens_B[b : b + 1])
        alone = align_ctc(model, one, Targets.from_lists([tokens]))
        assert torch.equal(alone.frames_BU[0], together.frames_BU[b, : len(tokens)])
        assert torch.equal(alone.durations_BU[0], together.durations_BU[b, : len(tokens)])
        assert float(alone.log_prob_B) == pytest.approx(float(together.log_prob_B[b]), rel=1e-5)
