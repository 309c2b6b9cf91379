"""Reads a pie: off its legend, or where shares stand on its slices and names around it, in the same directions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastvlm.inference.chart_lookup import LEAST_DIFFERENCE
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.receipt_rows import amount_of

_SHARE = re.compile(r"\d+(?:\.\d+)?\s?%")
_ENTRY = re.compile(r"\W*([^\W\d][^\d]*?)[\s.:]*(\d+(?:\.\d+)?)\s?%")
"""Of a legend: the name and the share."""

_LOOKED_AT_PX = 400
"""A pie is as round in a picture of that size."""

_LEAST_SLICES = 3
_POINT = re.compile(r"^(\d)\.(\d\s?%)$")
_AROUND = 1.25
"""In radii of the pie, how far from its middle a name begins or ends at most; a title is farther away."""

_MOST_APART = math.radians(35)
"""A name may stand so far beside the middle of its slice, seen from the middle of the pie."""


class Slice(NamedTuple):
    """A part of a pie: what it is called, and its share as it is written."""

    name: ReadLine
    share: ReadLine

    @property
    def size(self) -> float:
        """In per cent."""
        return float(self.share.text.rstrip("% "))


def is_whole(pie: Sequence[Slice]) -> bool:
    """Whether the slices come to a hundred per cent, rounded as they are."""
    return bool(pie) and abs(sum(one.size for one in pie) - 100) <= max(1.0, len(pie) / 2)


def find_pie(page: Page) -> list[Slice]:
    """Find the slices of a pie; empty where there is none, or where not every share has a name of its own."""
    entries = [(line, entry) for line in page.lines if (entry := _ENTRY.fullmatch(line.text)) is not None]
    has_amounts = any(amount_of(other.text) is not None for line, _ in entries for other in page.right_of(line))
    if len(entries) >= _LEAST_SLICES and not has_amounts:
        return [
            Slice(replace(line, text=entry[1]), replace(line, text=line.text[entry.start(2) :]))
            for line, entry in entries
        ]
    return _around(page)


def _around(page: Page) -> list[Slice]:
    shares = [line for line in page.lines if _SHARE.fullmatch(line.text)]
    if page.picture is None or len(shares) < _LEAST_SLICES:
        return []
    disc = _disc(page, shares)
    if disc is None:
        return []
    x, y, radius = disc
    names = [line for line in page.lines if re.search("[A-Za-z]{2}", line.text)]
    names = [name for name in names if 0.9 < _gap(name, x, y) / radius < _AROUND]
    found: list[Slice] = []
    for share in _put_right(shares):
        free = [name for name in names if all(name is not other.name for other in found)]
        name = min(free, key=lambda name: _between(name, share, x, y), default=None)
        if name is None or _between(name, share, x, y) > _MOST_APART:
            return []
        found.append(Slice(name, share))
    return found


def _put_right(shares: Sequence[ReadLine]) -> list[ReadLine]:
    """Shares of which some were read with a point too many, 2.0 % for 20 %, where all come to a hundred without it."""
    whole = [replace(share, text=_POINT.sub(r"\1\2", share.text)) for share in shares]
    return min((list(shares), whole), key=lambda some: abs(sum(float(one.text.rstrip("% ")) for one in some) - 100))


def _disc(page: Page, shares: Sequence[ReadLine]) -> tuple[float, float, float] | None:
    """Middle and radius of the pie, in pixels: of the colours between the shares and around them."""
    assert page.picture is not None
    step = max(1, max(page.picture.shape) // _LOOKED_AT_PX)
    picture = page.picture[::step, ::step].astype(np.float32)
    ground = np.median(picture.reshape(-1, 3), axis=0)
    is_coloured = np.abs(picture - ground).max(axis=2) >= LEAST_DIFFERENCE
    # What is written has few pixels in a row or a column, beside those of a disc.
    rows, columns = is_coloured.sum(axis=1), is_coloured.sum(axis=0)
    high, wide = (np.flatnonzero(counts >= 0.3 * counts.max()) for counts in (rows, columns))
    left, top, right, bottom = wide[0], high[0], wide[-1] + 1, high[-1] + 1
    is_round = 0.85 < (right - left) / (bottom - top) < 1.18
    fill = is_coloured[top:bottom, left:right].mean()
    middle = step * (left + right) / 2, step * (top + bottom) / 2, step * (right - left + bottom - top) / 4
    is_around = all(_distance(share, middle[0], middle[1]) < middle[2] for share in shares)
    return middle if is_round and 0.6 < fill < 0.95 and is_around else None


def _distance(line: ReadLine, x: float, y: float) -> float:
    """From the middle of a line."""
    return math.hypot(*_offset(line, x, y))


def _gap(line: ReadLine, x: float, y: float) -> float:
    """From the nearest point of a line."""
    box = line.box
    return math.hypot(max(box.left - x, x - box.right, 0), max(box.top - y, y - box.bottom, 0))


def _offset(line: ReadLine, x: float, y: float) -> tuple[float, float]:
    box = line.box
    return (box.left + box.right) / 2 - x, (box.top + box.bottom) / 2 - y


def _between(first: ReadLine, second: ReadLine, x: float, y: float) -> float:
    """The angle between two lines, seen from a place."""
    one, other = (math.atan2(*_offset(line, x, y)) for line in (first, second))
    return abs((one - other + math.pi) % (2 * math.pi) - math.pi)
