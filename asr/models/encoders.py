"""The table of encoders. Each is ``Encoder(config, feature_dim)`` with ``forward(features_BTF, lens_B) -> EncoderOut`` and

    subsampling: int, output_dim: int, min_frames: int      frames per encoder frame; channels; the shortest input
    reads_mel: bool                                         whether it takes features for neighbouring bins of a spectrogram
    frames_out(lens_B) -> lens_B                            encoder frames of so many feature frames
    set_step(step)                                          optional: told the training step, for scheduled values
    start(streams, device) -> state                         optional: streaming; the state has one row per stream
    step(features_BTF, state, final, lens_B) -> (EncoderOut, state)
"""
from __future__ import annotations

from typing import Any

from asr.config import one_of
from asr.models.conformer import Conformer
from asr.models.zipformer import Zipformer

ENCODERS: dict[str, Any] = {"conformer": Conformer, "zipformer": Zipformer}
EncoderConfig = one_of(ENCODERS)
