"""Words around the facts: noun phrases, spelling, and the small carelessness of people who type."""

from __future__ import annotations

import random
import re
from typing import Literal

from fastvlm.data.synthetic.directions import PLACE_SUFFIXES
from fastvlm.data.synthetic.facts import Group
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.shapes import PLURALS, SHAPES

NUMBER_WORDS: tuple[str, ...] = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
)  # fmt: skip

_AMERICAN = (("colour", "color"), ("Colour", "Color"), ("COLOUR", "COLOR"), ("grey", "gray"), ("Grey", "Gray"))
_AMERICAN_CENTER = (("centre", "center"), ("Centre", "Center"))
_AMERICAN_SIGN = re.compile(r"color|gray|center", re.IGNORECASE)
_BRITISH_SIGN = re.compile(r"colour|grey|centre", re.IGNORECASE)
GENERIC_NOUNS = ("object", "object", "object", "shape", "thing", "item")
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
    return rng.choice(GENERIC_NOUNS)


def fill(template: str, slots: dict[str, str], rng: random.Random) -> str:
    """Fill the slots of a template; {where} becomes nothing or a place, capitalised slot names capitalise."""
    if "{where" in template:
        suffix = rng.choice(PLACE_SUFFIXES) if rng.random() < _WHERE_PROBABILITY else ""
        slots = {**slots, "where": suffix, "where_or_visible": suffix or " visible"}
    if "color" in slots:
        slots = {**slots, "a_color": with_article(slots["color"])}
    for name in ("the", "things", "a", "place"):
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


LEAD_INS: tuple[str, ...] = (
    "Hi, ",
    "Hello, ",
    "Hey, ",
    "Good morning, ",
    "OK, ",
    "So, ",
    "Well, ",
    "Now, ",
    "In this image, ",
    "In this picture, ",
    "In the drawing, ",
    "Looking closely, ",
    "When you look at the drawing, ",
    "About this picture: ",
    "About the scene: ",
    "Look closely: ",
    "Look at the image. ",
    "Look at this drawing. ",
    "Here is a picture. ",
    "I have a picture. ",
)
"""What people put before a question or a request."""

LEAD_INS_OF_QUESTIONS: tuple[str, ...] = (
    "Quick question: ",
    "Question: ",
    "Another question: ",
    "A question about the image: ",
    "My question is: ",
    "Let me ask: ",
    "I wonder: ",
    "I am curious: ",
    "Tell me: ",
    "Tell me, ",
    "Could you help me? ",
    "One more thing: ",
    "Sorry, ",
)
"""What people put before what ends with a question mark."""

TAILS: tuple[str, ...] = (" Thanks!", " Thank you.", " Be brief.", " Keep it short.", " Please.", " Thanks in advance.")
"""What people put behind a question; true of every answer."""

FUNCTION_WORDS = frozenset(("a", "an", "the", "is", "are", "there", "do", "does", "you", "please"))
"""Words on which no answer depends: one may be missing."""

_DROP_PROBABILITY = 0.1
_LEAD_IN_PROBABILITY = 0.16
_TAIL_PROBABILITY = 0.04
_MIN_WORDS_FOR_ASIDES = 4


def careless(text: str, rng: random.Random, *, phrasing: Literal["train", "held_out"]) -> str:
    """Write like people: sometimes without capitals or question mark, politely, or with a slip of the finger.

    Only what is to be learnt from also loses a small word, or gets a lead-in or a tail: what judges stays comparable.
    """
    draw = rng.random()
    if phrasing == "train":
        text = _without_a_word(text, rng)
    if draw < 0.03 and text.endswith("?"):
        text = f"Please: {_uncapitalised(text)}"
    elif draw < 0.05 and text.endswith("?"):
        text = f"{text[:-1]}, please?"
    elif draw < 0.065:
        text = f"{text} Answer briefly."
    elif phrasing == "train":
        text = _with_asides(text, rng)
    if rng.random() < 0.12:
        text = text.lower()
    if text.endswith(("?", ".")) and rng.random() < 0.13:
        text = text[:-1]
    if rng.random() < 0.015:
        text = _with_slip(text, rng)
    return text


def _with_asides(text: str, rng: random.Random) -> str:
    """Put a lead-in before a text or a tail behind it; a greeting alone (`Hello!`) keeps to itself."""
    draw = rng.random()
    is_question = text.endswith("?")
    if not is_question and text.count(" ") + 1 < _MIN_WORDS_FOR_ASIDES:
        return text
    if draw < _LEAD_IN_PROBABILITY:
        lead_in = rng.choice(LEAD_INS + LEAD_INS_OF_QUESTIONS if is_question else LEAD_INS)
        return lead_in + (text if lead_in.endswith((". ", "? ")) else _uncapitalised(text))
    if draw < _LEAD_IN_PROBABILITY + _TAIL_PROBABILITY:
        return text + rng.choice(TAILS)
    return text


def _without_a_word(text: str, rng: random.Random) -> str:
    """Drop one word on which the answer does not depend."""
    words = text.split(" ")
    places = [index for index, word in enumerate(words) if word.lower() in FUNCTION_WORDS]
    if rng.random() >= _DROP_PROBABILITY or not places or len(words) < _MIN_WORDS_FOR_ASIDES:
        return text
    del words[rng.choice(places)]
    return capitalised(" ".join(words))


def _uncapitalised(text: str) -> str:
    """Begin in lower case, as after a comma, but for the word I."""
    return text if re.match(r"I\b", text) else text[:1].lower() + text[1:]


_WORDS_THAT_COUNT = re.compile(
    "|".join((*COLORS, *SHAPES, "grey", "gray"))
    + "|more|fewer|less|left|right|above|below|under|top|bottom|large|bigg|small|medium|cent|middle|upper|high|low",
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
