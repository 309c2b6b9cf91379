"""Puts numbers right whose last digit was read twice, as 48.00 for 48.0: they are too narrow for so many digits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from fastvlm.inference.page import ReadLine

_NUMBER = re.compile(r"[$€£]?\d[\d.:]+%?")
_TALL = frozenset("$€£%")
"""Signs that are higher than digits, or lower: numbers with them are compared with each other."""

_DOUBLED = re.compile(r"(\d)\1(?=%?$)")

_WIDTHS = {".": 0.45, ":": 0.45, "%": 1.45}
"""Of signs, in widths of a digit."""

_LEAST_NUMBERS = 4
"""With fewer on a page it is not known how wide its digits are."""

_TOO_NARROW, _TOO_NARROW_ONES = 0.84, 0.74
"""By this share of the page's own, the digits of a number are too narrow; a 1 is narrow in many fonts."""


def without_doubled_digits(lines: Sequence[ReadLine]) -> list[ReadLine]:
    """Lines, with numbers whose last two digits are one that was read twice.

    They are if all digits would be much narrower than those of the other numbers, and nearer to them without the last.
    """
    widths: dict[frozenset[str], list[float]] = defaultdict(list)
    for line in lines:
        if _NUMBER.fullmatch(line.text):
            widths[_tall_signs(line)].append(_digit_width(line, line.text))
    usual = {signs: median(found) for signs, found in widths.items() if len(found) >= _LEAST_NUMBERS}
    return [
        _put_right(line, usual[_tall_signs(line)])
        if _NUMBER.fullmatch(line.text) and _tall_signs(line) in usual
        else line
        for line in lines
    ]


def _tall_signs(line: ReadLine) -> frozenset[str]:
    return _TALL & set(line.text)


def _put_right(line: ReadLine, usual: float) -> ReadLine:
    doubled = _DOUBLED.search(line.text)
    if doubled is None:
        return line
    text = _DOUBLED.sub(r"\1", line.text)
    width, width_without = (_digit_width(line, one) / usual for one in (line.text, text))
    is_too_narrow = width < (_TOO_NARROW_ONES if doubled[1] == "1" else _TOO_NARROW)
    return replace(line, text=text) if is_too_narrow and abs(width_without - 1) < abs(width - 1) else line


def _digit_width(line: ReadLine, text: str) -> float:
    """How wide digits would be if a line said some text, by the line's height."""
    return line.box.width / (line.box.height * sum(_WIDTHS.get(sign, 1.0) for sign in text))
