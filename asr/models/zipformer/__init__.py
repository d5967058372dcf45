"""The Zipformer encoder."""
from asr.models.zipformer.encoder import StreamState, Zipformer

__all__ = ["StreamState", "Zipformer"]
