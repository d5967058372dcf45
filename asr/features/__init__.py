"""Acoustic features: what the encoder sees. Waveform in, (frames, bins) out."""
from asr.config import one_of
from asr.features.fbank import Fbank
from asr.features.specaugment import SpecAugment
from asr.features.unitaugment import UnitAugment

FEATURES = {"fbank": Fbank}
"""Every kind of features, by the ``type`` of its config."""

FeaturesConfig = one_of(FEATURES)

__all__ = ["FEATURES", "Fbank", "FeaturesConfig", "SpecAugment", "UnitAugment"]
