"""Tells whether the line or the bars of a chart go up or down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

_TREND_QUESTION = re.compile(
    r"\btrend\b|\b(?:up|ris\w+|increas\w+) or (?:down|fall\w*|decreas\w+)\b|"
    r"\b(?:which way|direction)\b.*\b(?:line|curve|bars|values)\b",
    re.I,
)
_LEAST_VALUES, _LEAST_SPAN = 3, 0.1
"""Of a chart with a trend; and how far apart its ends are at least, by its highest value."""


def asks_for_trend(question: str) -> bool:
    """Whether a question asks if a chart goes up or down."""
    return bool(_TREND_QUESTION.search(question))


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
