"""Searches over encoder output, and what they are made of. See README.md and docs/decoding.md."""
from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from asr.config import Config as BaseConfig
from asr.config import one_of
from asr.decode.ctc_graph import CtcGraph
from asr.decode.ctc_greedy import CtcGreedy
from asr.decode.ctc_prefix_beam import CtcPrefixBeam
from asr.decode.fast_beam import FastBeam
from asr.decode.greedy import Greedy
from asr.decode.modified_beam import ModifiedBeam
from asr.decode.rescore import Rescore
from asr.decode.scorers import SCORERS, ScorerConfig
from asr.decode.search import NOT_FOUND, Search, StreamingSearch, Unavailable
from asr.decode.skip_blank import SkipBlank
from asr.decode.words import to_text, to_tokens, to_words

FIRST_PASSES: dict[str, Any] = {
    "greedy": Greedy,
    "modified_beam": ModifiedBeam,
    "fast_beam": FastBeam,
    "ctc_greedy": CtcGreedy,
    "ctc_prefix_beam": CtcPrefixBeam,
    "ctc_graph": CtcGraph,
}
Rescore.Config.model_rebuild(_types_namespace={"FirstPass": one_of(FIRST_PASSES)})
SEARCHES: dict[str, Any] = {**FIRST_PASSES, "rescore": Rescore}
SearchConfig = one_of(SEARCHES)

__all__ = [
    "NOT_FOUND",
    "SCORERS",
    "SEARCHES",
    "DecodeConfig",
    "ScorerConfig",
    "Search",
    "SearchConfig",
    "StreamingSearch",
    "Unavailable",
    "build_search",
    "to_text",
    "to_tokens",
    "to_words",
]


class DecodeConfig(BaseConfig):
    """searches: by the names their result files get. max_duration: seconds of audio in a batch (padding included).
    average, average_epochs: the weights, as in ``asr.train.checkpoints.average_state``: averaged over the steps ("running") or
    the ends ("epochs") of the last so many epochs, null for the last third; 0 for the last weights as they are.
    chunk: seconds of audio that encoder and searches get at a time, for encoders that can stream; null for whole utterances."""

    searches: dict[str, SearchConfig] = {"greedy": Greedy.Config()}  # type: ignore[valid-type]
    max_duration: float = Field(default=200.0, gt=0)
    average: Literal["running", "epochs"] = "running"
    average_epochs: int | None = Field(default=None, ge=0)
    chunk: float | None = Field(default=None, gt=0)


def build_search(config: Any, model: Any, tokenizer: Any, lang: Any = None) -> Search:
    """The search of ``config`` (a ``SearchConfig``) for a model in eval mode.

    lang: the language directory (``asr.lang.Lang``), needed by graphs and by the n-gram scorer only.
    Raises Unavailable, with the reason in one line, where this stack or this model cannot run it.
    """
    search = SEARCHES[config.type](config, model, tokenizer, lang)
    threshold = getattr(config, "skip_blank", None)
    return search if threshold is None else SkipBlank(search, model, threshold)
