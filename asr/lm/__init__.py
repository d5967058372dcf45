"""Language models: n-gram estimation and pruning, ARPA files, batched scoring of token sequences; neural ones in neural.py."""
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.kneser_ney import NgramConfig, estimate
from asr.lm.ngram import NgramLm, Perplexity
from asr.lm.pruning import prune
from asr.lm.tables import StateTables
from asr.lm.text import read_sentences
from asr.lm.token_ngram import TokenNgram
from asr.lm.word_ngram import WordNgram

__all__ = [
    "NgramConfig", "NgramLm", "Perplexity", "StateTables", "TokenNgram", "WordNgram", "estimate", "prune", "read_arpa", "read_sentences",
    "write_arpa",
]
