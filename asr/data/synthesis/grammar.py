"""What the numbers corpus says: spoken numbers in every language num2words knows, and short commands in English.

The grammar is skewed so that a language model has something to give. Fillers of a slot are drawn by Zipf's law in the order
listed, and numbers that sound alike (thirteen and thirty, fifteen and fifty, five and nine) live in different contexts:
timers run for fifteen minutes, volumes go to fifty percent.
"""
from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass
from itertools import accumulate
from typing import Mapping, Sequence

from num2words import num2words

SLOT = re.compile(r"\{(\w+)\}")

Templates = Sequence[tuple[float, str]]

COMMANDS: Templates = (
    (8, "set {a_or_the} timer for {minutes} minutes"),
    (3, "set {a_or_the} timer for {seconds} seconds"),
    (3, "add {minutes} minutes to the {dish} timer"),
    (5, "wake me up at {hour} {minute_past}"),
    (4, "set an alarm for {hour} {minute_past} on {weekday}"),
    (3, "{meeting} is at {hour} {minute_past}"),
    (3, "the train leaves at {hour} {minute_past} from platform {platform}"),
    (7, "turn the {sound} {direction} to {percent} percent"),
    (4, "dim the {room} lights to {percent} percent"),
    (5, "turn {on_or_off} the {room} {appliance}"),
    (4, "set the {room} to {degrees} degrees"),
    (3, "it is {degrees} degrees outside"),
    (5, "that costs {dollars} dollars and {cents} cents"),
    (3, "pay {dollars} {cents} for the {goods}"),
    (3, "{grams} grams of {goods}"),
    (5, "call {area} {digit} {digit} {digit} {digit}"),
    (2, "dial {emergency}"),
    (4, "remind me on the {day} of {month}"),
    (3, "his birthday is {month} {day}"),
    (4, "she was born in {century} {year_of_century}"),
    (3, "play {song} number {track}"),
    (3, "take bus {bus} to the {place}"),
    (3, "room {room_number} please"),
    (2, "{small} plus {small}"),
    (2, "{small} times {small}"),
    (5, "{number}"),
)

NUMBERS_ONLY: Templates = (
    (6, "{number}"),
    (3, "{number} {small}"),
    (3, "{dollars} {cents}"),
    (2, "{hour} {minute_past}"),
    (2, "{area_digit} {digit} {digit} {digit}"),
    (1, "{percent} {percent}"),
)

NUMBERS: Mapping[str, Sequence[int]] = {
    "minutes": (15, 5, 10, 20, 30, 2, 13, 45, 3, 25, 40, 18, 14, 12, 35, 17, 50, 60),
    "seconds": (30, 45, 15, 20, 60, 90, 10, 50, 40),
    "hour": (7, 6, 8, 9, 10, 5, 11, 4, 3, 2, 1, 12),
    "minute_past": (30, 15, 45, 10, 20, 40, 50, 25, 35, 55, 13, 17),
    "percent": (50, 30, 80, 20, 70, 40, 60, 90, 10, 100, 25, 75, 15),
    "degrees": (21, 20, 19, 18, 22, 17, 16, 23, 15, 24, 14, 25, 13, 30),
    "dollars": (19, 9, 5, 15, 29, 13, 49, 14, 12, 18, 7, 16, 99, 25, 3, 17, 39, 50),
    "cents": (99, 95, 50, 90, 49, 80, 60, 75, 40, 30, 20, 70),
    "grams": (250, 500, 150, 100, 200, 350, 50, 750, 400, 300),
    "century": (19, 18, 17),
    "year_of_century": (84, 90, 68, 75, 99, 91, 80, 72, 59, 45, 69, 95, 50, 88, 77, 66, 40, 39, 33, 18),
    "track": tuple(range(1, 20)),
    "platform": (9, 5, 4, 3, 7, 2, 8, 6, 1, 13, 11, 15),
    "bus": (13, 15, 19, 16, 5, 14, 90, 42, 27, 9, 18, 68, 33, 71),
    "room_number": (*range(301, 320), *range(501, 510), *range(213, 219), 930, 950, 540, 590),
    "small": tuple(range(1, 21)),
    "digit": (5, 0, 2, 7, 1, 9, 4, 3, 8, 6),
    "area_digit": (9, 0, 5, 1, 8),
    "number": tuple(range(0, 1000)),
}
"""Slots filled by cardinal numbers, the most frequent first."""

ORDINALS: Mapping[str, Sequence[int]] = {
    "day": (13, 1, 15, 30, 14, 25, 19, 2, 16, 20, 9, 5, 18, 31, 17, 24, 3, 12, 10, 4, 11, 6, 28, 7, 8, 22, 21, 23, 26, 27, 29),
}

WORDS: Mapping[str, Sequence[str]] = {
    "a_or_the": ("a", "the"),
    "dish": ("oven", "pasta", "egg", "rice"),
    "weekday": ("monday", "friday", "sunday", "tuesday", "saturday", "thursday", "wednesday"),
    "meeting": ("dinner", "the meeting", "the party", "the lesson"),
    "sound": ("volume", "music", "radio", "television"),
    "direction": ("up", "down"),
    "room": ("kitchen", "bedroom", "living room", "hall", "office", "garden"),
    "on_or_off": ("on", "off"),
    "appliance": ("lights", "heating", "lamp", "fan", "camera"),
    "goods": ("rice", "flour", "sugar", "coffee", "butter", "milk", "cheese"),
    "area": ("five five five", "nine one five", "eight hundred", "five one nine", "nine five five"),
    "emergency": ("nine one one", "one one two", "nine nine nine"),
    "month": ("may", "june", "march", "july", "april", "december", "january", "august", "october", "november"),
    "song": ("song", "track", "album"),
    "place": ("station", "airport", "market", "school", "harbour"),
}


@dataclass(frozen=True)
class Grammar:
    """Weighted sentence templates, and the fillers of their slots, the most frequent first."""

    templates: Templates
    fillers: Mapping[str, Sequence[str]]

    def sentence(self, rng: random.Random) -> str:
        """A sentence of lower-case words separated by single spaces, without digits or punctuation."""
        (_, template), = rng.choices(self.templates, weights=[weight for weight, _ in self.templates])
        return SLOT.sub(lambda slot: _zipf_choice(self.fillers[slot[1]], rng), template)


def build_grammar(num2words_lang: str) -> Grammar:
    """The grammar of a language, given as num2words names it: commands for English, else numbers only."""
    english = num2words_lang.partition("_")[0] == "en"
    templates = COMMANDS if english else NUMBERS_ONLY
    used = {name for _, template in templates for name in SLOT.findall(template)}
    fillers: dict[str, Sequence[str]] = {name: words for name, words in WORDS.items() if name in used}
    for table, kind in ((NUMBERS, "cardinal"), (ORDINALS, "ordinal")):
        for name in used & table.keys():
            fillers[name] = [normalise(num2words(number, lang=num2words_lang, to=kind)) for number in table[name]]
    return Grammar(templates, fillers)


def normalise(text: str) -> str:
    """Lower case; letters with their marks and apostrophes stay, everything else parts words."""
    text = unicodedata.normalize("NFC", text).lower()
    kept = (c if unicodedata.category(c)[0] in "LM" or c in "'’\u200c" else " " for c in text)
    return " ".join("".join(kept).split())


def _zipf_choice(fillers: Sequence[str], rng: random.Random) -> str:
    weights = list(accumulate(1 / rank for rank in range(1, len(fillers) + 1)))
    return rng.choices(fillers, cum_weights=weights)[0]
