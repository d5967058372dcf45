"""How transcripts should be normalised, by what is in them. Each rule is stated with the utterances that it changes.

Order of the proposed steps is that of :class:`asr.data.text.Normalizer`: HTML, Unicode form, replacements, case, removals.
"""
from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asr.data.scripts import UNSPACED, has_case
from asr.data.text import TAG, in_word
from asr.recipe.survey import Finding, Utterance, counted_characters, scripts

ELEMENTS = frozenset((
    "a", "b", "big", "blockquote", "body", "br", "center", "code", "div", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "head", "hr",
    "html", "i", "img", "li", "ol", "p", "pre", "s", "small", "span", "strong", "sub", "sup", "table", "td", "th", "tr", "tt", "u", "ul",
))
ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[a-zA-Z]+\d*);")
ANNOTATION = re.compile(r"\[[^\[\]]{1,40}\]|<[^<>]{1,40}>|\{[^{}]{1,40}\}")
MOST_ANNOTATIONS = 40
"""More different ones than this are no set of marks for noises but text in brackets."""

TWICE_ENCODED = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]{1,3}"
)
"""What cp1252 makes of the two to four bytes of a letter in UTF-8."""

JOINERS = "\u200c\u200d"
"""Invisible, but spelling in Persian and in the scripts of India."""

APOSTROPHES = "\u2019\u02bc\uff07\u0060\u00b4\u2018"
KEPT_INSIDE = "\u00b7\u05f3\u05f4"
"""Marks that belong to a word: Catalan l·l, Hebrew geresh and gershayim."""

SPOKEN = "&%\u2030@#\u00a7"
"""Punctuation to Unicode, words to those who read aloud."""

WIDE_FORMS = re.compile("[\ufb00-\ufb06\ufb50-\ufdff\ufe70-\ufefc\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9d]")
"""Ligatures, Arabic presentation forms, full-width letters and digits, half-width kana: other shapes of common letters."""

LOST = "\ufffd"
TATWEEL = "\u0640"
MINORITY = 0.01


@dataclass
class TextRules:
    """settings: the keys of ``corpus.text``. reasons: why, by key. forbidden: characters that make a text useless."""

    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    forbidden: str = ""
    findings: list[Finding] = field(default_factory=list)

    def set(self, key: str, value: Any, why: str) -> None:
        self.settings[key] = value
        self.reasons[key] = why

    def replace(self, replacements: dict[str, str], why: str) -> None:
        self.settings.setdefault("replace", {}).update(replacements)
        earlier = self.reasons.get("replace")
        self.reasons["replace"] = f"{earlier}; {why}" if earlier else why


def propose_text_rules(utterances: Sequence[Utterance]) -> TextRules:
    rules = TextRules()
    _markup(rules, utterances)
    if "html" in rules.settings:
        utterances = [replace(utterance, text=html.unescape(TAG.sub(" ", utterance.text))) for utterance in utterances]
    _unicode_form(rules, utterances)
    cleaned = [replace(utterance, text=unicodedata.normalize(rules.settings["unicode"], utterance.text)) for utterance in utterances]
    _tatweel(rules, cleaned)
    _encoding(rules, cleaned)
    _invisible(rules, cleaned)
    _annotations(rules, cleaned)
    _apostrophes(rules, cleaned)
    _punctuation(rules, cleaned)
    _case(rules, cleaned)
    _unspaced(rules, cleaned)
    _spoken_otherwise(rules, cleaned)
    _foreign_scripts(rules, cleaned)
    return rules


def _ids(utterances: Iterable[Utterance], holds: Callable[[str], Any]) -> tuple[str, ...]:
    return tuple(utterance.id for utterance in utterances if holds(utterance.text))


def _markup(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    def marked(text: str) -> bool:
        tags = (tag.strip("</> ").split()[0].rstrip("/").lower() for tag in TAG.findall(text) if tag.strip("</> "))
        return any(tag in ELEMENTS for tag in tags) or ENTITY.search(text) is not None

    ids = _ids(utterances, marked)
    if ids:
        rules.set("html", True, f"{len(ids)} texts hold HTML: tags become spaces, entities their characters")
        rules.findings.append(Finding("texts with HTML tags or entities", ids, "html: true takes them out."))


def _encoding(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    """UTF-8 that was read as another encoding and written as UTF-8 again, and what can no longer be read at all."""
    repairs: dict[str, str] = {}
    for utterance in utterances:
        for wrong in TWICE_ENCODED.findall(utterance.text):
            for length in range(2, len(wrong) + 1):
                right = _decoded_once(wrong[:length])
                if right is not None:
                    repairs[wrong[:length]] = right
                    break
    if repairs:
        ids = _ids(utterances, lambda text: any(wrong in text for wrong in repairs))
        shown = ", ".join(f"{wrong} is {right}" for wrong, right in list(repairs.items())[:5])
        rules.replace(repairs, f"UTF-8 that was taken for cp1252 ({shown})")
        rules.findings.append(Finding("texts encoded twice", ids, f"replace puts right what it can: {shown}."))
    broken = _ids(utterances, lambda text: LOST in text)
    if broken:
        rules.forbidden = LOST
        rules.findings.append(Finding("texts with U+FFFD, where letters were lost", broken, "Stage 1 drops them (forbidden)."))


def _decoded_once(text: str) -> str | None:
    try:
        decoded = text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        try:
            decoded = text.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return None
    return decoded if len(decoded) == 1 else None


def _invisible(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    characters = counted_characters(utterance.text for utterance in utterances)
    found = sorted(c for c in characters if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") and c not in JOINERS)
    if not found:
        return
    ids = _ids(utterances, lambda text: not set(found).isdisjoint(text))
    names = ", ".join(f"U+{ord(character):04X}" for character in found[:8])
    rules.replace({c: " " if unicodedata.category(c) == "Cc" else "" for c in found}, f"control and invisible characters ({names})")
    rules.findings.append(Finding(f"texts with control or invisible characters ({names})", ids, "replace takes them out."))


def _unicode_form(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    wide = _ids(utterances, WIDE_FORMS.search)
    if wide:
        rules.set("unicode", "NFKC", f"{len(wide)} texts hold other shapes of common letters (full-width, ligatures, presentation forms)")
        rules.findings.append(Finding("texts with other shapes of common letters", wide, "unicode: NFKC makes them the common ones."))
    else:
        rules.set("unicode", "NFC", "one code point for a letter and its accent, where there is one; combining marks are kept")


def _tatweel(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    if any(TATWEEL in utterance.text for utterance in utterances):
        rules.replace({TATWEEL: ""}, "tatweel stretches Arabic words and spells nothing")


def _annotations(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    found = Counter(mark for utterance in utterances for mark in ANNOTATION.findall(utterance.text))
    if found and len(found) <= MOST_ANNOTATIONS:
        shown = ", ".join(f"{mark} ({count})" for mark, count in found.most_common(5))
        rules.replace({mark: " " for mark, _ in found.most_common()}, f"marks in brackets are not speech: {shown}")
        ids = _ids(utterances, ANNOTATION.search)
        rules.findings.append(Finding(f"texts with marks in brackets ({shown})", ids, "replace takes them out: put back what is spoken."))


def _apostrophes(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    """Any apostrophe becomes the straight one where it stands inside words at least as often as at their edges, as quotation marks do."""
    total_inside, total_elsewhere = _places("'", utterances)
    for mark in APOSTROPHES:
        inside, elsewhere = _places(mark, utterances)
        if inside and inside >= elsewhere:
            rules.replace({mark: "'"}, f"{mark} is an apostrophe ({inside} times inside a word, {elsewhere} at an edge)")
            total_inside, total_elsewhere = total_inside + inside, total_elsewhere + elsewhere
    if total_elsewhere > total_inside:
        why = f"{total_inside} times inside a word, {total_elsewhere} at an edge, where it is a quotation mark"
        rules.set("keep", "", f"' stands {why}")
        if total_inside:
            rules.set("keep_inside", "'", "an apostrophe there")


def _places(mark: str, utterances: Sequence[Utterance]) -> tuple[int, int]:
    """How often the mark stands between two letters or digits, and how often elsewhere."""
    inside = elsewhere = 0
    for utterance in utterances:
        text = utterance.text
        place = text.find(mark)
        while place >= 0:
            between = 0 < place < len(text) - 1 and in_word(text[place - 1]) and in_word(text[place + 1])
            inside, elsewhere = inside + between, elsewhere + (not between)
            place = text.find(mark, place + 1)
    return inside, elsewhere


def _punctuation(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    kept = rules.settings.get("keep", "'")
    characters = counted_characters(utterance.text for utterance in utterances)
    marks = Counter({c: count for c, count in characters.items() if unicodedata.category(c).startswith("P")})
    for mark in (*rules.settings.get("replace", {}), *kept):
        marks.pop(mark, None)
    if not marks:
        return
    shown = " ".join(f"{mark} ({count})" for mark, count in marks.most_common(10))
    rules.set("remove", "punctuation", f"punctuation is not heard: {shown}")
    spoken = "".join(mark for mark in SPOKEN if mark in marks)
    belong = "".join(mark for mark in KEPT_INSIDE if mark in marks) + rules.settings.get("keep_inside", "")
    if spoken:
        earlier = f"{rules.reasons['keep']}; " if "keep" in rules.reasons else ""
        rules.set("keep", kept + spoken, f"{earlier}{' '.join(spoken)} stands for a word")
    if belong:
        rules.set("keep_inside", belong, f"between two letters, {' '.join(belong)} is part of the word")
    spaces = [mark for mark in sorted(marks) if mark not in belong + spoken and _places(mark, utterances)[0]]
    if spaces:
        rules.replace(dict.fromkeys(spaces, " "), f"between two letters, {' '.join(spaces)} separates words: taken out, it would join them")


def _case(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    counted = {c: n for c, n in counted_characters(utterance.text for utterance in utterances).items() if has_case(c)}
    upper = sum(count for c, count in counted.items() if c == c.upper())
    total = sum(counted.values())
    if not total:
        rules.set("case", "keep", "no letter here has case")
        return
    if upper == total:
        rules.set("case", "upper", "all letters are upper case already")
    elif upper == 0:
        rules.set("case", "lower", "all letters are lower case already")
    else:
        if "\u0131" in counted or "\u0130" in counted:
            rules.replace({"\u0130": "i", "I": "\u0131"}, "Turkic spelling: dotted and dotless i are two letters")
        rules.set("case", "lower", f"{upper / total:.1%} of the letters are upper case, which is not heard")


def _unspaced(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    letters = scripts(utterance.text for utterance in utterances)
    unspaced = {name: count for name, count in letters.items() if name in UNSPACED}
    if sum(unspaced.values()) > MINORITY * sum(letters.values()):
        rules.set("characters_as_words", True, f"{', '.join(name.title() for name in sorted(unspaced))} is written without spaces between "
                  "words: the error rate counts its characters")


def _spoken_otherwise(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    digits = _ids(utterances, re.compile(r"\d").search)
    if digits:
        rules.findings.append(Finding("texts with digits, which are spoken as words", digits,
                                      "They are kept as they are; spelled out in the corpus, they are learnt better."))
    characters = counted_characters(ANNOTATION.sub(" ", utterance.text) for utterance in utterances)
    symbols = sorted(c for c in characters if (unicodedata.category(c).startswith("S") or c in SPOKEN) and c not in (*APOSTROPHES, LOST))
    if symbols:
        ids = _ids(utterances, lambda text: not set(symbols).isdisjoint(text))
        rules.findings.append(Finding(f"texts with symbols ({' '.join(symbols)})", ids, "They are kept: what is spoken is not known."))


def _foreign_scripts(rules: TextRules, utterances: Sequence[Utterance]) -> None:
    letters = scripts(utterance.text for utterance in utterances)
    total = sum(letters.values())
    foreign = {name for name, count in letters.items() if count < MINORITY * total}
    if foreign:
        ids = _ids(utterances, lambda text: foreign & scripts([text]).keys())
        rules.findings.append(Finding(f"texts with letters of a script that is rare here ({', '.join(sorted(foreign)).lower()})", ids,
                                      "They are kept; list the characters in corpus.forbidden to drop them."))

