"""The encoder of docs/add-an-encoder.md works as it stands there."""
from __future__ import annotations

import importlib
import re
from pathlib import Path

import torch

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "add-an-encoder.md"


def test_the_encoder_of_the_guide(tmp_path, monkeypatch):
    path = tmp_path / "from_the_encoder_guide.py"
    path.write_text(re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    guide = importlib.import_module(path.stem)
    encoder = guide.LstmEncoder(guide.LstmEncoder.Config(dim=8, layers=1), 20).eval()
    features_BTF, lens_B = torch.randn(2, 50, 20), torch.tensor([50, 30])
    together = encoder(features_BTF, lens_B)
    alone = encoder(features_BTF[1:, :30], lens_B[1:])
    assert together.lens_B.tolist() == encoder.frames_out(lens_B).tolist() == [11, 6]
    torch.testing.assert_close(together.frames_BSD[1, :6], alone.frames_BSD[0])
