"""Corpora to batches: sources, splits, checks, manifests, stored features, augmentation, loaders. With features, all that knows lhotse."""
from asr.data.batches import BatchConfig, Extremes, extremes
from asr.data.beside import Beside
from asr.data.checks import check_targets
from asr.data.corpus import CorpusConfig, prepare_corpus
from asr.data.loader import BatchLoader, count_frames, evaluation_loader, training_cuts, training_loader
from asr.data.manifests import (
    Dropped,
    Transcript,
    iterate_cuts,
    iterate_transcripts,
    read_cuts,
    read_dropped,
    read_transcripts,
    summary,
    write_cuts,
    write_selection,
)
from asr.data.segments import part_of, speech_features, spoken_parts
from asr.data.shar_writer import write_shar
from asr.data.stored import compute_features
from asr.data.units import prepare_extractor, prepare_subwords

__all__ = [
    "BatchConfig", "BatchLoader", "Beside", "CorpusConfig", "Dropped", "Extremes", "Transcript", "check_targets", "compute_features",
    "count_frames", "evaluation_loader", "extremes", "iterate_cuts", "iterate_transcripts", "part_of", "prepare_corpus",
    "prepare_extractor", "prepare_subwords", "read_cuts", "read_dropped", "read_transcripts", "speech_features", "spoken_parts",
    "summary", "training_cuts", "training_loader", "write_cuts", "write_selection", "write_shar",
]
