"""Discrete units: what of audio a finite vocabulary can say."""
from asr.features.units.extractors import EXTRACTORS
from asr.features.units.features import Units, UnitView, fit_extractor, fit_subwords
from asr.features.units.sources import ENCODER_FILE, import_transformers
from asr.features.units.subwords import UnitSubwords

__all__ = ["ENCODER_FILE", "EXTRACTORS", "UnitSubwords", "UnitView", "Units", "fit_extractor", "fit_subwords", "import_transformers"]
