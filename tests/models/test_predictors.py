"""Predictors: the step form is the training form, and the stateless one is the published function."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch

from asr.models.predictors import PREDICTORS, LstmPredictor, StatelessPredictor, TransformerPredictor, concatenate, select

VOCAB = 11
CONFIGS = [
    StatelessPredictor.Config(dim=8, context_size=1),
    StatelessPredictor.Config(dim=8, context_size=2),
    StatelessPredictor.Config(dim=12, context_size=4),
    LstmPredictor.Config(dim=6),
    LstmPredictor.Config(dim=6, layers=2, dropout=0.5),
    TransformerPredictor.Config(dim=8, layers=1, heads=2, feedforward=12, context=1),
    TransformerPredictor.Config(dim=8, heads=2, feedforward=12, context=3),
    TransformerPredictor.Config(dim=8, heads=2, feedforward=12, context=4, positions="relative"),
    TransformerPredictor.Config(dim=8, heads=2, feedforward=12, context=20),
]


def build(config):
    torch.manual_seed(0)
    return PREDICTORS[config.type](config, VOCAB).eval()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_step_by_step_equals_the_training_form(config):
    predictor = build(config)
    tokens_BU = torch.randint(1, VOCAB, (3, 7))
    whole = predictor(tokens_BU)
    assert whole.shape == (3, 8, predictor.output_dim)
    out_ND, state = predictor.start(3, "cpu")
    torch.testing.assert_close(out_ND, whole[:, 0])
    for u in range(7):
        out_ND, state = predictor.step(tokens_BU[:, u], state)
        torch.testing.assert_close(out_ND, whole[:, u + 1])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_selected_and_concatenated_states_go_on_as_their_rows_would(config):
    predictor = build(config)
    _, state = predictor.start(3, "cpu")
    _, state = predictor.step(torch.tensor([1, 2, 3]), state)
    expected, _ = predictor.step(torch.tensor([4, 5, 6]), state)
    rows = torch.tensor([2, 0, 2])
    out_ND, _ = predictor.step(torch.tensor([6, 4, 6]), select(state, rows))
    torch.testing.assert_close(out_ND, expected[rows])
    out_ND, _ = predictor.step(torch.tensor([4, 5, 6, 6]), concatenate([state, select(state, torch.tensor([2]))]))
    torch.testing.assert_close(out_ND, expected[torch.tensor([0, 1, 2, 2])])


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_empty_transcripts_have_one_row(config):
    assert build(config)(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 1, config.dim)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_later_tokens_do_not_change_earlier_rows(config):
    predictor = build(config)
    short, long = torch.tensor([[3, 1, 4]]), torch.tensor([[3, 1, 4, 0, 0]])
    torch.testing.assert_close(predictor(long)[:, :4], predictor(short))


def test_stateless_sees_exactly_its_context():
    predictor = build(StatelessPredictor.Config(dim=8, context_size=2))
    same, different = predictor(torch.tensor([[1, 5, 6]]))[0, 3], predictor(torch.tensor([[2, 5, 6]]))[0, 3]
    torch.testing.assert_close(same, different)
    assert not torch.allclose(same, predictor(torch.tensor([[1, 4, 6]]))[0, 3])


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_a_transformer_sees_its_context_and_no_more(positions):
    predictor = build(TransformerPredictor.Config(dim=8, layers=2, heads=2, feedforward=12, context=3, positions=positions))
    tokens_BU = torch.randint(1, VOCAB, (1, 9))
    for changed in range(9):
        others = tokens_BU.clone()
        others[0, changed] = tokens_BU[0, changed] % (VOCAB - 1) + 1
        differs = (predictor(others) - predictor(tokens_BU)).abs().amax(2)[0] > 1e-6
        seeing = [changed < row <= changed + 5 for row in range(10)]  # 2 layers of 2 tokens back, and the token itself
        assert differs.tolist() == seeing


def test_a_transformer_of_impossible_shape_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        build(TransformerPredictor.Config(dim=10, heads=2))


def test_stateless_reproduces_the_published_outputs():
    golden = Path(__file__).resolve().parents[1] / "golden"
    weights = torch.load(golden / "zipformer_offline.ckpt.pt", weights_only=True)
    weights = {name: value.float() for name, value in weights.get("model", weights).items()}
    reference = torch.load(golden / "zipformer_offline.io.pt", weights_only=True)
    vocab, dim = weights["decoder.embedding.weight"].shape
    predictor = StatelessPredictor(StatelessPredictor.Config(dim=dim), vocab)
    predictor.load_state_dict({k.removeprefix("decoder."): v for k, v in weights.items() if k.startswith("decoder.")})
    for context, expected in zip(reference["decoder_in"], reference["decoder_out"]):
        out = predictor(context.unsqueeze(0))[0, -1]
        torch.testing.assert_close(out, expected[0].float())
