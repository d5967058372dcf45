"""Several corpora as one: of several languages, or of one."""
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Sequence

from pydantic import Field

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.data.manifests import Dropped
from asr.data.sources.base import SourceSplit
from asr.data.sources.folder import Folder
from asr.data.sources.kaldi import Kaldi
from asr.data.sources.lhotse_recipe import LhotseRecipe
from asr.data.sources.manifests import Manifests
from asr.data.sources.script import Script
from asr.data.sources.segments_json import SegmentsJson
from asr.data.sources.table import Table

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

SINGLE: dict[str, Any] = {
    "lhotse": LhotseRecipe, "kaldi": Kaldi, "table": Table, "folder": Folder, "segments_json": SegmentsJson, "manifests": Manifests,
    "script": Script,
}


class Several:
    """The split ``train`` of the corpus ``sw`` is ``sw/train``; the ids of its utterances, recordings and speakers begin with ``sw-``."""

    class Config(BaseConfig):
        """corpora: what reads each of them, by the name of its folder in the corpus directory, which is the language of its utterances
        where neither it nor ``languages`` tells another.
        languages: of corpora whose folders are not named so, e.g. ``{fleurs_sw: sw}``.
        """

        type: Literal["several"] = "several"
        corpora: dict[str, one_of(SINGLE)] = Field(min_length=1)  # type: ignore[valid-type]
        languages: dict[str, str] = {}

    def __init__(self, config: "Several.Config") -> None:
        self.config = config

    def read(self, corpus_dir: Path, splits: Sequence[str] | None, work_dir: Path) -> dict[str, SourceSplit]:
        wanted = None if splits is None else {name: self._split(name) for name in splits}
        found: dict[str, SourceSplit] = {}
        for name, config in self.config.corpora.items():
            own = None if wanted is None else [split for corpus, split in wanted.values() if corpus == name]
            if own == []:
                continue
            if not (corpus_dir / name).is_dir():
                raise ValueError(f"{corpus_dir / name}: no such directory; it is where the corpus '{name}' of corpus.source.corpora lies")
            language = self.config.languages.get(name, name)
            for split, content in SINGLE[config.type](config).read(corpus_dir / name, own, work_dir / name).items():
                cuts = [_renamed(cut, name, language) for cut in content.cuts]
                dropped = [Dropped(f"{name}-{item.id}", f"{name}/{split}", item.reason) for item in content.dropped]
                found[f"{name}/{split}"] = SourceSplit(cuts, dropped)
        return found

    def _split(self, name: str) -> tuple[str, str]:
        corpus, slash, split = name.partition("/")
        if not slash or corpus not in self.config.corpora:
            corpora = self.config.corpora
            raise ValueError(f"corpus.splits: 'from: {name}' is no split of several corpora; write it as {next(iter(corpora))}/train, "
                             f"the corpora being {', '.join(corpora)}")
        return corpus, split


def _renamed(cut: "MonoCut", corpus: str, language: str) -> "MonoCut":
    from lhotse.utils import fastcopy

    supervision = cut.supervisions[0]
    speaker = None if supervision.speaker is None else f"{corpus}-{supervision.speaker}"
    recording = fastcopy(cut.recording, id=f"{corpus}-{cut.recording.id}")
    id = f"{corpus}-{cut.id}"
    return fastcopy(cut, id=id, recording=recording, supervisions=[
        fastcopy(supervision, id=id, recording_id=recording.id, speaker=speaker, language=supervision.language or language)
    ])
