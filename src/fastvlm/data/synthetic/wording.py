"""Words around the facts: noun phrases, spelling, and the small carelessness of people who type."""

from __future__ import annotations

import random
import re

from fastvlm.data.synthetic.directions import PLACE_SUFFIXES
from fastvlm.data.synthetic.facts import Group
from fastvlm.data.synthetic.shapes import PLURALS

NUMBER_WORDS: tuple[str, ...] = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip

_AMERICAN = (("colour", "color"), ("Colour", "Color"), ("COLOUR", "COLOR"), ("grey", "gray"), ("Grey", "Gray"))
_AMERICAN_CENTER = (("centre", "center"), ("Centre", "Center"))
_AMERICAN_SIGN = re.compile(r"color|gray|center", re.IGNORECASE)
_BRITISH_SIGN = re.compile(r"colour|grey|centre", re.IGNORECASE)
_GENERIC_NOUNS = ("object", "object", "object", "shape", "thing", "item")
_WHERE_PROBABILITY = 0.3
_KEEP_WORDS = 4


def with_article(noun: str) -> str:
    """Put `a` or `an` before a noun phrase."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def noun(group: Group, *, generic: str = "object") -> str:
    """Name one object of a group: `large red star`, `red object`."""
    return " ".join(word for word in (_size_word(group), group.color, group.shape or generic) if word)


def plural(group: Group, *, generic: str = "object") -> str:
    """Name several objects of a group: `red stars`, `red objects`."""
    last = PLURALS[group.shape] if group.shape else generic + "s"
    return " ".join(word for word in (_size_word(group), group.color, last) if word)


def _size_word(group: Group) -> str | None:
    return "medium-sized" if group.size == "medium" else group.size


def sample_generic(rng: random.Random) -> str:
    """Choose a word for an object of any shape."""
    return rng.choice(_GENERIC_NOUNS)


def fill(template: str, slots: dict[str, str], rng: random.Random) -> str:
    """Fill the slots of a template; {where} becomes nothing or a place, capitalised slot names capitalise."""
    if "{where" in template:
        suffix = rng.choice(PLACE_SUFFIXES) if rng.random() < _WHERE_PROBABILITY else ""
        slots = {**slots, "where": suffix, "where_or_visible": suffix or " visible"}
    if "color" in slots:
        slots = {**slots, "a_color": with_article(slots["color"])}
    for name in ("the", "things", "a"):
        if name in slots:
            slots = {**slots, name.capitalize(): capitalised(slots[name])}
    return template.format_map(slots)


def capitalised(text: str) -> str:
    """Begin a sentence with a capital letter."""
    return text[:1].upper() + text[1:]


def american(text: str) -> str:
    """Spell a text the American way."""
    for british, spelled in _AMERICAN + _AMERICAN_CENTER:
        text = text.replace(british, spelled)
    return text


def spelled_like(answer: str, question: str) -> str:
    """Spell an answer as its question is spelled; a question that does not tell is taken for British."""
    if _AMERICAN_SIGN.search(question) and not _BRITISH_SIGN.search(question):
        return american(answer)
    return answer


def careless(text: str, rng: random.Random) -> str:
    """Write like people: sometimes without capitals or question mark, politely, or with a slip of the finger."""
    draw = rng.random()
    if draw < 0.03 and text.endswith("?"):
        text = f"Please: {text[0].lower()}{text[1:]}"
    elif draw < 0.05 and text.endswith("?"):
        text = f"{text[:-1]}, please?"
    elif draw < 0.065:
        text = f"{text} Answer briefly."
    if rng.random() < 0.12:
        text = text.lower()
    if text.endswith(("?", ".")) and rng.random() < 0.13:
        text = text[:-1]
    if rng.random() < 0.015:
        text = _with_slip(text, rng)
    return text


_WORDS_THAT_COUNT = re.compile(
    r"red|orange|yellow|green|blue|purple|pink|brown|black|white|gr[ea]y|circle|square|triangle|star|diamond|hexagon"
    r"|cross|heart|ring|more|fewer|left|right|above|below|under|top|bottom|large|small|medium|cent|middle|upper|lower",
    re.IGNORECASE,
)


def _with_slip(text: str, rng: random.Random) -> str:
    """Swap two letters inside a word on which the answer does not depend."""
    words = text.split(" ")
    places = [
        index
        for index, word in enumerate(words)
        if len(word) >= _KEEP_WORDS and word.isalpha() and not _WORDS_THAT_COUNT.search(word)
    ]
    if not places:
        return text
    index = rng.choice(places)
    word = words[index]
    at = rng.randrange(1, len(word) - 2)
    words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)
