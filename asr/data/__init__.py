"""Corpora to batches: sources, splits, checks, manifests, stored features, augmentation, loaders. With features, all that knows lhotse."""
from asr.data.batches import BatchConfig
from asr.data.checks import check_targets
from asr.data.corpus import CorpusConfig, prepare_corpus
from asr.data.loader import BatchLoader, evaluation_loader, training_loader
from asr.data.manifests import Dropped, Transcript, read_cuts, read_dropped, read_transcripts, summary, write_cuts
from asr.data.stored import compute_features

__all__ = [
    "BatchConfig", "BatchLoader", "CorpusConfig", "Dropped", "Transcript", "check_targets", "compute_features", "evaluation_loader",
    "prepare_corpus", "read_cuts", "read_dropped", "read_transcripts", "summary", "training_loader", "write_cuts",
]
