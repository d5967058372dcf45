from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from asr.cli.main import main
from asr.experiment import Layout, build_model, experiment_tokenizer, load_experiment
from asr.train.checkpoints import average_state

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SYMBOLS = ["<blk>", "<unk>", "▁", *"abcdefghij", "#0"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("".join(f"{symbol} {number}\n" for number, symbol in enumerate(SYMBOLS)), encoding="utf-8")
    checkpoint, dims = (str(GOLDEN / f"zipformer_causal.{ending}") for ending in ("ckpt.pt", "json"))
    return ["import-checkpoint", checkpoint, "--dims", dims, "--tokens", str(tokens), "--out", str(tmp_path / "exp" / "imported")]


def test_an_imported_experiment_computes_the_published_function(arguments: list[str], tmp_path: Path) -> None:
    assert main(arguments) == 0
    exp = tmp_path / "exp" / "imported"
    config = load_experiment(exp)
    tokenizer = experiment_tokenizer(Layout(config, tmp_path, exp))
    assert tokenizer.symbols == SYMBOLS[:-1]
    model = build_model(config, tokenizer).eval()
    model.load_state_dict(average_state(exp))
    io = torch.load(GOLDEN / "zipformer_causal.io.pt", weights_only=True)
    features = io["features"][0].float()
    with torch.no_grad():
        out = model.encode(features.unsqueeze(0), torch.tensor([len(features)]))
    torch.testing.assert_close(out.frames_BSD[0], io["encoder_out"][0], rtol=1e-4, atol=1e-4)


def test_an_experiment_is_not_overwritten(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "there is an experiment here already" in capsys.readouterr().err


def test_what_does_not_fit_is_explained(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens.txt").write_text("<blk> 0\n<unk> 1\n")
    assert main(arguments) == 2
    assert "2 tokens, but the model has 13" in capsys.readouterr().err
    dims = json.loads((GOLDEN / "zipformer_causal.json").read_text())
    wrong = tmp_path / "dims.json"
    wrong.write_text(json.dumps({**dims, "joiner_dim": 20}))
    (tmp_path / "tokens.txt").write_text("".join(f"{symbol} 0\n" for symbol in SYMBOLS), encoding="utf-8")
    arguments[arguments.index("--dims") + 1] = str(wrong)
    assert main(arguments) == 2
    assert "does not fit the dimensions" in capsys.readouterr().err
    assert not (tmp_path / "exp").exists()
