"""Features: what the encoder sees. Waveform in, (frames, bins) of numbers or (frames, codebooks) of ids out."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from asr.config import one_of
from asr.features.fbank import Fbank
from asr.features.specaugment import SpecAugment
from asr.features.unitaugment import UnitAugment
from asr.features.units import Units

FEATURES: dict[str, Any] = {"fbank": Fbank, "units": Units}
"""Every kind of features, by the ``type`` of its config."""

FeaturesConfig = one_of(FEATURES)
AnyFeatures = Union[Fbank.Config, Units.Config]


def open_features(config: AnyFeatures, directory: Path, device: str = "cpu") -> Fbank | Units:
    """What computes them. directory, device: of the extractor of units, and where it runs."""
    return Units(config, directory, device) if isinstance(config, Units.Config) else Fbank(config)


__all__ = ["FEATURES", "AnyFeatures", "Fbank", "FeaturesConfig", "SpecAugment", "UnitAugment", "Units", "open_features"]
