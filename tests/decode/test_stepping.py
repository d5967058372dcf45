from __future__ import annotations

import pytest
import torch

from asr.decode.stepping import Frames, StatelessTables, stepping
from asr.models.predictors import LstmPredictor, StatelessPredictor
from tests.decode.models import random_encoder_out, random_model


@torch.no_grad()
@pytest.mark.parametrize("context", [1, 2, 3])
def test_tables_equal_the_predictor_run_over_whole_sequences(context):
    torch.manual_seed(0)
    predictor = StatelessPredictor(StatelessPredictor.Config(dim=8, context_size=context), 6)
    tokens_BU = torch.randint(1, 6, (4, 5))
    expected_BUD = predictor(tokens_BU)
    tables = StatelessTables(predictor)
    out_BD, state = tables.start(4, "cpu")
    torch.testing.assert_close(out_BD, expected_BUD[:, 0])
    for u in range(5):
        out_BD, state = tables.step(tokens_BU[:, u], state)
        torch.testing.assert_close(out_BD, expected_BUD[:, u + 1])


def test_other_predictors_step_themselves():
    predictor = LstmPredictor(LstmPredictor.Config(dim=8), 6)
    assert stepping(predictor) is predictor


@torch.no_grad()
def test_frames_are_projected_before_or_when_they_are_visited():
    joiner, frames_BSD = random_model().joiner, random_encoder_out().frames_BSD
    rows_N1, frames_NW = torch.tensor([[4], [0]]), torch.tensor([[3, 7, 7], [0, 1, 8]])
    expected = joiner.project_encoder(frames_BSD[rows_N1, frames_NW])
    for visits_all in (True, False):
        torch.testing.assert_close(Frames(joiner, frames_BSD, visits_all).at(rows_N1, frames_NW), expected)
