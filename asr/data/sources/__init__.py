"""Where a corpus's utterances come from: one class per kind of source."""
from typing import Any

from asr.config import one_of
from asr.data.audio import read_sphere_by_libsndfile
from asr.data.sources.base import Source
from asr.data.sources.folder import Folder
from asr.data.sources.kaldi import Kaldi
from asr.data.sources.lhotse_recipe import LhotseRecipe
from asr.data.sources.manifests import Manifests
from asr.data.sources.script import Script
from asr.data.sources.segments_json import SegmentsJson
from asr.data.sources.several import SINGLE, Several
from asr.data.sources.table import Table

SOURCES: dict[str, Any] = {**SINGLE, "several": Several}
"""Every kind of source, by the ``type`` of its config."""

SourceConfig = one_of(SOURCES)


def open_source(config: Any) -> Source:
    """``config``: a ``SourceConfig``."""
    read_sphere_by_libsndfile()
    return SOURCES[config.type](config)


__all__ = ["SOURCES", "Folder", "Kaldi", "LhotseRecipe", "Manifests", "Script", "SegmentsJson", "Several", "Source", "SourceConfig",
           "Table", "open_source"]
