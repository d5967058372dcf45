"""What a person reads: alignments of every utterance, the most frequent confusions, a table of speakers."""
from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from asr.score.errors import Counts, Scored, ScoredUtterance

_LEFT_TO_RIGHT = "\u200e"


def error_report(scored: Scored, title: str, *, most_frequent: int = 30) -> str:
    """Totals, confusions, then every utterance: reference above hypothesis, and S, D or I below each wrong word."""
    lines = [title, "", f"words       {summary(scored.words)}", f"characters  {summary(scored.characters)}"]
    if scored.languages is not None:
        lines += [f"languages   {summary(scored.languages)}", "", language_table(scored)]
    lines.append("")
    for heading, found in confusions(scored).items():
        lines += [f"{heading} (the {most_frequent} most frequent of {len(found)})" if len(found) > most_frequent else heading]
        lines += [f"{times:6d}  {what}" for what, times in found.most_common(most_frequent)] or ["  none"]
        lines.append("")
    for utterance in scored.utterances:
        lines += [*_utterance_lines(utterance), ""]
    return "\n".join(lines)


def summary(counts: Counts) -> str:
    return (f"{100 * counts.rate:6.2f} %  {counts.errors} errors in {counts.length}: "
            f"{counts.substitutions} substitutions, {counts.deletions} deletions, {counts.insertions} insertions")


def confusions(scored: Scored) -> dict[str, Counter[str]]:
    """Counts of "ref -> hyp", of deleted and of inserted words; ties are in alphabetical order."""
    pairs = sorted((ref or "", hyp or "") for u in scored.utterances for ref, hyp in u.alignment if ref != hyp)
    return {
        "substitutions": Counter(f"{ref} -> {hyp}" for ref, hyp in pairs if ref and hyp),
        "deletions": Counter(ref for ref, hyp in pairs if not hyp),
        "insertions": Counter(hyp for ref, hyp in pairs if not ref),
    }


def language_table(scored: Scored) -> str:
    """One row per language: its error rates, and how many of its utterances were recognised as of this language."""
    rows: list[tuple[str, ...]] = [("language", "utterances", "words", "WER %", "CER %", "recognised %")]
    for language, found in scored.by_language().items():
        words, characters = _words(found), sum((u.characters for u in found), Counts())
        right = sum(u.heard_language == language for u in found) / len(found)
        rows.append((language, str(len(found)), str(words.length), *(f"{100 * x:.2f}" for x in (words.rate, characters.rate, right))))
    return table(rows)


def speaker_table(scored: Scored) -> str:
    """One row per speaker, the worst first, and their total. Utterances without a speaker are not in it."""
    speakers = scored.by_speaker()
    if not speakers:
        return "no speakers are known for these utterances\n"
    worst_first = sorted(speakers.items(), key=lambda item: (-_words(item[1]).rate, item[0]))
    rows = [_speaker_row(name, utterances) for name, utterances in worst_first]
    total = _speaker_row("all", [utterance for utterances in speakers.values() for utterance in utterances])
    return table([("speaker", "utterances", "words", "WER %", "S", "D", "I", "CER %"), *rows, total]) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to the width they have on a terminal; the first is set left, the others right."""
    widths = [max(map(width, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        first = row[0] + " " * (widths[0] - width(row[0]))
        lines.append("  ".join([first, *(" " * (w - width(cell)) + cell for cell, w in zip(row[1:], widths[1:]))]).rstrip())
    return "\n".join(lines)


def width(text: str) -> int:
    """Columns of a terminal that ``text`` takes: none for combining and invisible characters, two for wide ones."""
    return sum(0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def aligned(utterance: ScoredUtterance) -> list[str]:
    """Three lines (reference, hypothesis, kinds of errors) with words of a pair one above the other; *** marks a missing one.

    Where words run from right to left, marks between them keep the pairs in left-to-right order on screen.
    """
    cells = [(ref or "***", hyp or "***", _kind(ref, hyp)) for ref, hyp in utterance.alignment]
    rtl = any(unicodedata.bidirectional(c) in ("R", "AL") for cell in cells for word in cell for c in word)
    mark = _LEFT_TO_RIGHT if rtl else ""
    widths = [max(map(width, cell)) for cell in cells]
    lines = []
    for name, words in zip(("ref", "hyp", ""), zip(*cells) if cells else ((), (), ())):
        padded = (word + mark + " " * (w - width(word)) for word, w in zip(words, widths))
        lines.append(f"{name:3}  {' '.join(padded)}".rstrip())
    return lines


def _utterance_lines(scored: ScoredUtterance) -> Iterable[str]:
    utterance, words = scored.utterance, scored.words
    speaker = f"  {utterance.speaker}" if utterance.speaker else ""
    if words.errors == 0:
        return [f"{utterance.id}{speaker}  correct", f"ref  {utterance.ref}"]
    found = f"{100 * words.rate:.0f} %  S {words.substitutions}  D {words.deletions}  I {words.insertions}"
    return [f"{utterance.id}{speaker}  {found}", *aligned(scored)]


def _kind(ref: str | None, hyp: str | None) -> str:
    return "" if ref == hyp else "I" if ref is None else "D" if hyp is None else "S"


def _words(utterances: Iterable[ScoredUtterance]) -> Counts:
    return sum((u.words for u in utterances), Counts())


def _speaker_row(name: str, utterances: Sequence[ScoredUtterance]) -> tuple[str, ...]:
    words, characters = _words(utterances), sum((u.characters for u in utterances), Counts())
    return (name, str(len(utterances)), str(words.length), f"{100 * words.rate:.2f}", str(words.substitutions), str(words.deletions),
            str(words.insertions), f"{100 * characters.rate:.2f}")
