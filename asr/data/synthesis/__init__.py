"""The numbers corpus: spoken numbers and short commands, synthesised by eSpeak NG."""
from asr.data.synthesis.corpus import SynthesisConfig, synthesise

__all__ = ["SynthesisConfig", "synthesise"]
