"""What a line may say instead of what was read, where that is no word of English, but for a letter, or no date."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fastvlm.inference.possible_dates import possible_dates
from fastvlm.processing.english import english

_WORD = re.compile(r"(?<![\w'’@./\\-])[A-Za-z]{3,}(?![\w'’@/\\-]|\.\w)")
_MOST_SUGGESTIONS = 2
_MOST_RESPELLINGS = 10
"""Of one line: each is looked at in several views."""

_LEAST_OF_LANGUAGE = 4
"""Words of a line that tell whether it is English."""

_SIGNED_OR_NOT = re.compile(r"(?<![\w.,])([$€£]?)\d[\d,]*[.,:]\d\d(?!\d)")
_SIGNED = re.compile(r"(?<![\w.,])[$€£](?=\d[\d,]*[.,:]\d\d(?!\d))")
_READ_AS_SIGN = {"$": "5139", "€": "-138", "£": "-138"}
"""What is read as the sign of a currency, the most frequent one first."""

_LEAST_AMOUNTS, _UNUSUAL = 5, 0.5
"""Of a page that tells whether its amounts have signs; and the share of them from which they do."""

_LEAST_PART = 3
"""Letters of a word that another one was run together with."""

_KNOWN_WORD = math.log(50)
"""By how much a word of English is likelier than another one, beside what was seen."""


class Respelling(NamedTuple):
    """Another text for a line, which differs in what stood from one place to another."""

    text: str
    start: int
    stop: int
    instead: str


def are_signs_unusual(texts: Iterable[str]) -> bool:
    """Whether most amounts of a page have no sign of a currency."""
    amounts = [amount for text in texts if (amount := _SIGNED_OR_NOT.search(text)) is not None]
    num_signed = sum(amount[1] != "" for amount in amounts)
    return len(amounts) >= _LEAST_AMOUNTS and num_signed < _UNUSUAL * len(amounts)


def has_sign(text: str) -> bool:
    """Whether a line has an amount with the sign of a currency."""
    return _SIGNED.search(text) is not None


def respellings(text: str, *, has_other_amounts: bool = False) -> list[Respelling]:
    """What a line may say where it was misread: words of English, run together or apart, and dates that there are.

    has_other_amounts: whether most amounts around it have no sign, so that one may be a misread digit or a minus.
    """
    found = list(possible_dates(text))
    if has_other_amounts:
        found += [
            (sign.start(), sign.end(), other) for sign in _SIGNED.finditer(text) for other in _READ_AS_SIGN[sign[0]]
        ]
    words = list(_WORD.finditer(text))
    num_known = sum(word[0] in english() for word in words)
    if len(words) >= _LEAST_OF_LANGUAGE and num_known < len(words) / 2:
        words = []  # another language
    found += [
        (word.start(), word.end(), other)
        for word in words
        for other in (*english().nearest(word[0], _MOST_SUGGESTIONS), *_parts(word[0]))
    ]
    found += [
        (word.start(), following.end(), word[0] + following[0])
        for word, following in itertools.pairwise(words)
        if text[word.end() : following.start()] == " " and _are_one(word[0], following[0])
    ]
    return [
        Respelling(text[:start] + instead + text[stop:], start, stop, instead)
        for start, stop, instead in found[:_MOST_RESPELLINGS]
    ]


def chosen(text: str, others: Sequence[Respelling], likelihoods: Sequence[float]) -> str:
    """A line with those words put right that are likelier so. likelihoods: of the text, and of each other one."""
    as_read, *of_others = (math.log(max(likelihood, 1e-300)) for likelihood in likelihoods)
    gains = dict(zip(others, (likelihood - as_read for likelihood in of_others), strict=True))
    taken: list[Respelling] = []
    for other in sorted((one for one in others if gains[one] > -_KNOWN_WORD), key=lambda one: -gains[one]):
        if all(other.stop <= one.start or one.stop <= other.start for one in taken):
            taken.append(other)
    for other in sorted(taken, key=lambda one: -one.start):
        text = text[: other.start] + other.instead + text[other.stop :]
    return text


def _parts(word: str) -> Iterator[str]:
    """A word as two, where it is none and both of them are."""
    known = english()
    if word in known or len(word) < 2 * _LEAST_PART:
        return
    for end in range(_LEAST_PART, len(word) - _LEAST_PART + 1):
        if known.is_word(word[:end]) and known.is_word(word[end:]):
            yield f"{word[:end]} {word[end:]}"


def _are_one(word: str, following: str) -> bool:
    known = english()
    return known.is_word(word + following) and not (known.is_word(word) and known.is_word(following))
