"""What a date may be that was misread: one that there is, with one digit of its day or of its month changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

_DATE = re.compile(r"(?<![\d/.-])(\d{1,2})([-/.])(\d{1,2})\2(?:\d{4}|\d{2})(?!\d)")
_YEAR_FIRST = re.compile(r"(?<![\d/.-])(?:19|20)\d\d([-/.])(\d{1,2})\1(\d{1,2})(?!\d)")
_MOST_DAYS, _MOST_MONTHS = 31, 12


def possible_dates(text: str) -> Iterator[tuple[int, int, str]]:
    """Days and months that may stand where a line has a date that there is not: from where to where, and which.

    Years are left as they are, and so is a date whose day is too high for its month only.
    """
    for date in _DATE.finditer(text):
        first, second = int(date[1]), int(date[3])
        if _is_possible(first, second) or _is_possible(second, first):
            continue
        if _is_day(first):
            yield from _other_numbers(date, 3, _MOST_MONTHS)
        if _is_month(second):
            yield from _other_numbers(date, 1, _MOST_DAYS)
        if _is_month(first):
            yield from _other_numbers(date, 3, _MOST_DAYS)
    for date in _YEAR_FIRST.finditer(text):
        month, day = int(date[2]), int(date[3])
        if _is_day(day) and not _is_month(month):
            yield from _other_numbers(date, 2, _MOST_MONTHS)
        if _is_month(month) and not _is_day(day):
            yield from _other_numbers(date, 3, _MOST_DAYS)


def _is_possible(day: int, month: int) -> bool:
    return _is_day(day) and _is_month(month)


def _is_day(number: int) -> bool:
    return 1 <= number <= _MOST_DAYS


def _is_month(number: int) -> bool:
    return 1 <= number <= _MOST_MONTHS


def _other_numbers(date: re.Match[str], group: int, most: int) -> Iterator[tuple[int, int, str]]:
    """Numbers up to a highest one that differ from a part of a date in one digit."""
    read = date[group]
    for number in range(1, most + 1):
        other = f"{number:0{len(read)}}"
        if len(other) == len(read) and sum(one != two for one, two in zip(other, read, strict=True)) == 1:
            yield date.start(group), date.end(group), other
