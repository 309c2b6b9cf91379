"""Tells whether the line or the bars of a chart go up or down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from fastvlm.inference.mentions import words_of
from fastvlm.inference.questions import ASIDES, offers_up_or_down

_TREND_QUESTION = re.compile(
    r"\btrend\b|\b(?:which way|direction)\b.*\b(?:line|curve|bars|values)\b|"
    r"\b(?:line|curve|bars)\b.*\b(?:which way|direction)\b",
    re.I,
)
_TREND = """
are bars chart curve decrease decreases decreasing develop direction do does down end ends fall falling falls general go
goes going graph higher how increase increases increasing line lower of or over overall rise rises rising show than
starts time trend up values way what's which
"""
_TREND_WORDS = frozenset(_TREND.split()) | ASIDES
"""All that a question for a trend says beside the name of a series; another word is a condition or a part of it."""

_LEAST_VALUES, _LEAST_SPAN = 3, 0.1
"""Of a chart with a trend; and how far apart its ends are at least, by its highest value."""


def asks_for_trend(question: str) -> bool:
    """Whether a question asks if something goes up or down."""
    return offers_up_or_down(question) or bool(_TREND_QUESTION.search(question))


def says_only_trend(question: str, start: int = 0, stop: int = 0) -> bool:
    """Whether such a question says nothing else, but for some of its words: the name of a series."""
    words = words_of(question)
    return set(words[:start] + words[stop:]) <= _TREND_WORDS


def trend_of(values: Sequence[float | None]) -> str | None:
    """*up* or *down*, where most steps go one way and the ends lie apart; None for others."""
    known = [value for value in values if value is not None]
    if len(known) < max(_LEAST_VALUES, len(values) - 1):
        return None
    apart = known[-1] - known[0]
    steps = [after - before for before, after in pairwise(known)]
    num_along = sum(step * apart > 0 for step in steps)
    if abs(apart) < _LEAST_SPAN * max(map(abs, known)) or num_along <= len(steps) / 2:
        return None
    return "up" if apart > 0 else "down"
