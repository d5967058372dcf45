"""Stage 1: from a corpus on disk to validated manifests, one per split, and a list of everything left out."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from asr.config import Config as BaseConfig
from asr.data import checks
from asr.data.manifests import Dropped, summary, write_cuts, write_dropped
from asr.data.sources import SourceConfig, open_source
from asr.data.splits import SplitConfig, derive
from asr.data.text import Normalizer
from asr.types import language_tag

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

log = logging.getLogger(__name__)


class CorpusConfig(BaseConfig):
    """source: what reads the corpus.
    splits: the experiment's splits, by name. ``train`` is trained on, ``dev`` tuned on; every other is a test set.
    text: normalisation of the transcripts.
    language_text: other rules than ``text``, for the transcripts of single languages.
    language_tags: transcripts begin with a word that tells the language, as ``<lang:sw>``, for models that recognise it.
    sample_rate: Hz that all audio must have; ``resample: true`` converts other rates whenever audio is read.
    min_duration, max_duration: seconds; utterances outside are dropped.
    min_rate, max_rate: characters of the normalised transcript per second; utterances outside are dropped, their text is of other audio.
    forbidden: characters; utterances in whose normalised transcript one occurs are dropped.
    max_dropped: the largest fraction of one of the corpus's splits that may be dropped before that is an error.
    """

    source: SourceConfig  # type: ignore[valid-type]
    splits: dict[str, SplitConfig] = Field(min_length=1)
    text: Normalizer.Config = Normalizer.Config()
    language_text: dict[str, Normalizer.Config] = {}
    language_tags: bool = False
    sample_rate: int = Field(default=16000, ge=2000)
    resample: bool = False
    min_duration: float = Field(default=0.1, ge=0)
    max_duration: float = Field(default=30.0, gt=0)
    min_rate: float | None = Field(default=None, ge=0)
    max_rate: float | None = Field(default=None, gt=0)
    forbidden: str = ""
    max_dropped: float = Field(default=0.05, ge=0, le=1)


def prepare_corpus(config: CorpusConfig, corpus_dir: Path, manifests: Path, *, jobs: int = 2) -> None:
    """Writes ``<manifests>/<split>.jsonl.gz`` for every split, then ``dropped.jsonl``. The same input gives the same bytes.

    Raises ValueError for a missing or empty corpus, a wrong sample rate, an empty split, or too much that had to be dropped;
    in the last case ``dropped.jsonl`` is written all the same.
    """
    corpus_dir = corpus_dir.resolve()
    if not corpus_dir.is_dir() or not any(corpus_dir.iterdir()):
        state = "empty" if corpus_dir.is_dir() else "missing"
        raise ValueError(f"{corpus_dir}: the corpus directory is {state}; get the corpus first (stage 0), or correct --corpus-dir")
    source = open_source(config.source)
    wanted = list(dict.fromkeys(name for split in config.splits.values() for name in split.sources))
    found = source.read(corpus_dir, wanted, manifests / "source")
    totals = {name: len(split.cuts) + len(split.dropped) for name, split in found.items()}
    for name, total in totals.items():
        if not total:
            raise ValueError(f"{corpus_dir}: split '{name}' of the corpus is empty")
    dropped = [item for split in found.values() for item in split.dropped]
    pools = sift_corpus(config, {name: split.cuts for name, split in found.items()}, dropped, jobs=jobs)
    listed = manifests / "dropped.jsonl"
    write_dropped(listed, dropped)
    if dropped:
        log.warning("dropped %d of %d utterances (%s):\n%s", len(dropped), sum(totals.values()), listed, summary(dropped))
    checks.enforce_limit(totals, dropped, config.max_dropped, listed)
    for name, cuts in derive(config.splits, pools).items():
        write_cuts(manifests / f"{name}.jsonl.gz", cuts)
        log.info("%s: %d utterances, %.2f hours", name, len(cuts), sum(cut.duration for cut in cuts) / 3600)


def sift_corpus(
    config: CorpusConfig, found: dict[str, list["MonoCut"]], dropped: list[Dropped], *, jobs: int | None = None
) -> dict[str, list["MonoCut"]]:
    """The usable cuts of each of the corpus's splits, with normalised transcripts; the others are added to ``dropped``.

    jobs: how many audio files are decoded at once, to find those that cannot be; None trusts their headers.
    """
    normalize = Normalizer(config.text)
    of_language = {language: Normalizer(text) for language, text in config.language_text.items()}
    new_id = checks.unique_ids()
    new_audio = checks.unique_audio()
    length = checks.length_between(config.min_duration, config.max_duration)
    rate = checks.rate_between(config.min_rate, config.max_rate)
    pools: dict[str, list["MonoCut"]] = {}
    for split, cuts in found.items():
        for cut in cuts:
            supervision = cut.supervisions[0]
            supervision.text = of_language.get(supervision.language or "", normalize)(supervision.text or "")
        for check in (new_id, new_audio, checks.has_text, checks.without_characters(config.forbidden)):
            cuts = checks.sift(cuts, split, check, dropped)
        if not config.resample:
            checks.check_sample_rate(cuts, config.sample_rate)
        if jobs is not None:
            cuts = checks.sift(cuts, split, checks.readable(cuts, jobs), dropped)
        cuts = [cut if cut.sampling_rate == config.sample_rate else cut.resample(config.sample_rate) for cut in cuts]
        for check in (length, rate):
            cuts = checks.sift(cuts, split, check, dropped)
        if config.language_tags:
            _tag(cuts)
        pools[split] = cuts
    return pools


def _tag(cuts: list["MonoCut"]) -> None:
    for cut in cuts:
        supervision = cut.supervisions[0]
        if supervision.language is None:
            raise ValueError(f"utterance '{cut.id}' has no language: let the source give it (a column 'language', or a corpus of "
                             "'source: {type: several}'), or set corpus.language_tags: false")
        supervision.text = f"{language_tag(supervision.language)} {supervision.text}"
