"""Small random batches for the tests of losses."""
from __future__ import annotations

import torch

from asr.types import EncoderOut, Targets

VOCAB, DIM = 9, 16


def make_batch(frame_lens: list[int], token_lens: list[int], padding: float = 0.0, seed: int = 0) -> tuple[EncoderOut, Targets]:
    """Random encoder frames (a leaf that wants its gradient) and transcripts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    frames_BSD = 2 * torch.randn(len(frame_lens), max(frame_lens), DIM, generator=generator)
    for row, length in enumerate(frame_lens):
        frames_BSD[row, length:] = padding
    targets = Targets.from_lists([torch.randint(1, VOCAB, (n,), generator=generator).tolist() for n in token_lens])
    return EncoderOut(frames_BSD.requires_grad_(), torch.tensor(frame_lens)), targets
