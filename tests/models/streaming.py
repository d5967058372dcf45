"""Streaming of any encoder, as its tests drive it."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asr.types import EncoderOut


@torch.no_grad()
def stream(encoder: Any, features_BTF: Tensor, lens_B: Tensor, piece: int) -> EncoderOut:
    """The utterances fed ``piece`` feature frames at a time, all of them in one batch from their common start on."""
    state, outs = encoder.start(len(features_BTF)), []
    for begin in range(0, features_BTF.shape[1], piece):
        part = features_BTF[:, begin : begin + piece]
        out, state = encoder.step(part, state, lens_B=(lens_B - begin).clamp(0, part.shape[1]))
        outs.append(out)
    outs.append(encoder.step(features_BTF[:, :0], state, final=True)[0])
    return EncoderOut(torch.cat([out.frames_BSD for out in outs], dim=1), torch.stack([out.lens_B for out in outs]).sum(0))


@torch.no_grad()
def assert_streams_as_a_whole(encoder: Any, features_BTF: Tensor, lens_B: Tensor, piece: int) -> None:
    """Streamed, batched with chunk masks, and each utterance alone: one result."""
    for row, length in enumerate(lens_B):
        if features_BTF.is_floating_point():
            features_BTF[row, length:] = 30 * torch.randn(features_BTF.shape[1] - int(length), features_BTF.shape[2])
    whole, streamed = encoder(features_BTF, lens_B), stream(encoder, features_BTF, lens_B, piece)
    assert streamed.lens_B.tolist() == whole.lens_B.tolist() == encoder.frames_out(lens_B).tolist()
    for row, frames in enumerate(whole.lens_B.tolist()):
        expected = whole.frames_BSD[row, :frames]
        torch.testing.assert_close(streamed.frames_BSD[row, :frames], expected, rtol=1e-4, atol=1e-4)
        length = int(lens_B[row])
        alone = encoder(features_BTF[row : row + 1, :length], lens_B[row : row + 1])
        torch.testing.assert_close(alone.frames_BSD[0, :frames], expected, rtol=1e-4, atol=1e-4)
