from __future__ import annotations

import pytest
import torch

from asr.decode.stepping import StatelessTables, stepping
from asr.models.predictors import LstmPredictor, StatelessPredictor


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
