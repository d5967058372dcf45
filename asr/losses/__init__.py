"""Training losses. See README.md; a new one is a class file and a row of ``LOSSES`` in combined.py."""
from asr.losses.alignment import Alignment, align, align_ctc
from asr.losses.combined import LOSSES, LossConfig, Losses, build_losses

__all__ = ["LOSSES", "Alignment", "LossConfig", "Losses", "align", "align_ctc", "build_losses"]
