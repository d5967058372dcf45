"""Plain text for language models."""
from __future__ import annotations

from pathlib import Path


def read_sentences(path: Path) -> list[str]:
    """The non-empty lines of a UTF-8 file. Raises ValueError for a missing, unreadable or empty one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such text file; correct ngram.text or --text") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason}); convert it first") from None
    sentences = [line.strip() for line in text.split("\n") if line.strip()]
    if not sentences:
        raise ValueError(f"{path}: there is no text in this file")
    return sentences
