"""The loss of docs/add-a-loss.md works as it stands there."""
from __future__ import annotations

import importlib
import re
from pathlib import Path

import torch

from tests.losses.batches import make_batch

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "add-a-loss.md"


def test_the_loss_of_the_guide(model, tmp_path, monkeypatch):
    path = tmp_path / "from_the_loss_guide.py"
    path.write_text(re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    guide = importlib.import_module(path.stem)
    encoder_out, targets = make_batch([14, 9], [6, 3], padding=float("nan"))
    loss = guide.SmoothCtc(guide.SmoothCtc.Config(bonus=0.5), model)
    out = loss(encoder_out, targets, model, step=0)
    ctc = loss.ctc(encoder_out, targets, model, step=0).total_B
    torch.testing.assert_close(out.total_B, ctc - 0.5 * out.parts["entropy"])
    out.total_B.sum().backward()
    assert encoder_out.frames_BSD.grad.isfinite().all()
    model.zero_grad()
