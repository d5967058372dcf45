"""Language directories: words, lexicon, and decoding graphs."""
from asr.lang.fst import Fst
from asr.lang.lang import Lang, LangConfig, build_lang, make_lexicon, write_lang

__all__ = ["Fst", "Lang", "LangConfig", "build_lang", "make_lexicon", "write_lang"]
