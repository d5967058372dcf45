"""Word and character error rates, their confidence, reports, and the ledger of results."""
from asr.score.bootstrap import Comparison, Interval, compare, interval
from asr.score.errors import Counts, Scored, align, score
from asr.score.evaluate import score_file, score_split
from asr.score.mapsswe import Mapsswe, mapsswe
from asr.score.results import write_results

__all__ = ["Comparison", "Counts", "Interval", "Mapsswe", "Scored", "align", "compare", "interval", "mapsswe", "score", "score_file",
           "score_split", "write_results"]
