"""Finds the axis of a chart and reads bars off it: what its numbers say and where they stand tell what a height is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.inference.page import Page, ReadLine, number_of
from fastvlm.processing.text_lines import SPACE, Box, gaps_of, split

LEAST_TICKS = 3
"""Numbers of an axis whose places agree with what they say: fewer would agree by chance."""

_MOST_NUMBERS = 80
"""A page with more of them is a table."""

_TOLERANCE = 0.02
"""Of an axis, by which a number may stand beside its place."""

_YEAR = re.compile(r"(?:19|20)\d\d")
_LIKE_ZERO = frozenset("OoQD")
"""A letter alone beside numbers is a nought."""

LEAST_DIFFERENCE = 24
"""In grey levels of one colour, between a bar and the ground."""

_SWATCH = 1.7, 0.4
"""Where the patch of colour before an entry of a legend is, in heights of its letters left of it."""

_UNEVEN = 0.2
"""By this share, at most, the middles of neighbouring labels are nearer or farther than most of them."""

_LEAST_PATCH_PX = 4
_LEAST_COLUMNS = 3
_LEAST_HEIGHT_PX = 3

Direction = Literal["up", "right"]
Side = Literal["x", "y"]


@dataclass(frozen=True)
class Axis:
    """Numbers along one side: `value = start + step * place`, places in pixels from the top or the left.

    ticks: the lines whose numbers agree with that.
    """

    direction: Direction
    start: float
    step: float
    ticks: tuple[ReadLine, ...]

    def value(self, place: float) -> float:
        """What stands at a place."""
        return self.start + self.step * place

    @property
    def zero(self) -> float:
        """Where bars begin."""
        return -self.start / self.step


@dataclass(frozen=True)
class Chart:
    """Bars, or points of a line, along an axis.

    labels: of the categories, in their order. ground: the colour that most of it has.
    """

    axis: Axis
    labels: tuple[ReadLine, ...]
    picture: UInt8Array
    ground: Float32Array

    def value(self, label: ReadLine, series: ReadLine | None = None, others: Sequence[ReadLine] = ()) -> float | None:
        """Measure the bar of a category; None where none begins at the axis.

        series, others: the entry of a legend whose bar is meant, and all others.
        """
        is_up = self.axis.direction == "up"
        # Bars to the right are looked at as bars upwards.
        pixels = self.picture if is_up else self.picture.swapaxes(0, 1)[::-1]
        across: Side = "x" if is_up else "y"
        length = pixels.shape[0]
        base = round(self.axis.zero if is_up else length - 1 - self.axis.zero) - 4
        if not 8 <= base < length:
            return None
        centre, reach = _centre(label, across), self._reach(label, across)
        if series is None:
            half = max(1.0, 0.15 * reach)
            strip = pixels[:, max(0, round(centre - half)) : round(centre + half) + 1].astype(np.float32)
            colour = np.median(strip[base - 3 : base + 1].reshape(-1, 3), axis=0) if strip.shape[1] else self.ground
        else:
            colours = [self._swatch(entry) for entry in (series, *others)]
            strip = self._strip_of(pixels[:, max(0, round(centre - reach)) : round(centre + reach) + 1], base, colours)
            colour = colours[0]
        if strip.shape[1] == 0 or np.abs(colour - self.ground).max() < LEAST_DIFFERENCE:
            return None
        top = _top(strip, base, colour, self.ground)
        if base - top < _LEAST_HEIGHT_PX:
            return None
        return self.axis.value(top if is_up else length - 1 - top)

    def legend(self, page: Page) -> list[ReadLine]:
        """The lines of a page with a patch of colour before them."""
        known = (*self.labels, *self.axis.ticks)
        return [
            line
            for line in page.lines
            if line not in known
            and (number_of(line.text) is None or _YEAR.fullmatch(line.text))
            and np.abs(self._swatch(line) - self.ground).max() >= LEAST_DIFFERENCE
        ]

    def _reach(self, label: ReadLine, across: Side) -> float:
        """Half of what lies between the middles of two categories."""
        centres = sorted(_centre(one, across) for one in self.labels)
        gaps = [later - earlier for earlier, later in itertools.pairwise(centres)]
        return float(np.median(gaps)) / 2 if gaps else label.box.width / 2

    def _swatch(self, entry: ReadLine) -> Float32Array:
        """The colour of the patch before an entry of a legend, that of the ground where there is none."""
        box = entry.box
        far, near = (round(share * box.height) for share in _SWATCH)
        rows = slice(box.top + box.height // 3, box.bottom - box.height // 3 + 1)
        flat = self.picture[rows, max(0, box.left - far) : max(0, box.left - near)].reshape(-1, 3).astype(np.float32)
        coloured = flat[np.abs(flat - self.ground).max(1) >= LEAST_DIFFERENCE]
        is_patch = len(coloured) >= max(_LEAST_PATCH_PX, len(flat) / 4)
        found: Float32Array = np.median(coloured, axis=0) if is_patch else self.ground
        return found

    def _strip_of(self, pixels: UInt8Array, base: int, colours: Sequence[Float32Array]) -> Float32Array:
        """The columns of a category whose foot has the first of some colours, without those at their sides."""
        foot = np.median(pixels[base - 2 : base + 1], axis=0)
        distances = np.stack([np.abs(foot - colour).sum(1) for colour in (*colours, self.ground)])
        columns = np.flatnonzero(distances.argmin(0) == 0)
        quarter = len(columns) // 4 if len(columns) >= _LEAST_COLUMNS else len(columns)
        return pixels[:, columns[quarter : len(columns) - quarter]].astype(np.float32)


def find_chart(page: Page) -> Chart | None:
    """Find the chart of a page: an axis on the left with labels below it, or one below with labels on its left."""
    if page.picture is None:
        return None
    # Every fourth pixel each way tells the same, sixteen times as soon.
    ground = np.median(page.picture[::4, ::4].reshape(-1, 3), axis=0).astype(np.float32)
    axis = _axis(page.lines, "up")
    if axis is not None:
        zero, left = axis.zero, max(tick.box.right for tick in axis.ticks)
        below = [
            line
            for line in page.lines
            if line not in axis.ticks and line.box.top >= zero - 4 and (line.box.left + line.box.right) / 2 > left
        ]
        labels = _first_row(below)
        # A column of a table has its own numbers below three that agree by chance.
        return Chart(axis, labels, page.picture, ground) if _are_categories(labels) else None
    axis = _axis(page.lines, "right")
    if axis is not None:
        beside = [
            line
            for line in page.lines
            if line not in axis.ticks
            and line.box.right <= axis.zero + 4
            and line.box.bottom <= min(tick.box.top for tick in axis.ticks) + 4
        ]
        lowest = max(tick.box.bottom for tick in axis.ticks)
        below = [line for line in page.lines if number_of(line.text) is not None and line.box.top >= lowest]
        is_table = any(_is_below(line, tick) for line in below for tick in axis.ticks)
        return Chart(axis, tuple(beside), page.picture, ground) if len(beside) > 1 and not is_table else None
    return None


def _are_categories(labels: Sequence[ReadLine]) -> bool:
    """Whether lines below an axis may be categories: names, years, or numbers that go up."""
    numbers = [number_of(label.text) for label in labels]
    if any(number is None or _YEAR.fullmatch(label.text) for number, label in zip(numbers, labels, strict=True)):
        return True
    known = [number for number in numbers if number is not None]
    return len(known) >= LEAST_TICKS and all(one < other for one, other in itertools.pairwise(known))


def _is_below(line: ReadLine, tick: ReadLine) -> bool:
    return line.box.left < tick.box.right and tick.box.left < line.box.right


def separate_labels(page: Page) -> dict[ReadLine, list[Box]]:
    """Find labels below an upright axis that stand so near to each other that they were read as one line.

    Returns the boxes of each such line's labels: with them, all labels stand equally far apart, as under bars.
    """
    chart = find_chart(page)
    if chart is None or chart.axis.direction != "up":
        return {}
    gaps = {label: gaps_of(chart.picture, label.box) for label in chart.labels}
    best: tuple[float, dict[ReadLine, list[Box]]] = (_UNEVEN, {})
    widths_px = {gap.width for label, of_one in gaps.items() for gap in of_one if gap.width >= SPACE * label.box.height}
    for least_px in widths_px:
        parts = {
            label: split(label.box, [gap for gap in of_one if gap.width >= least_px]) for label, of_one in gaps.items()
        }
        unevenness = _unevenness([box for boxes in parts.values() for box in boxes])
        if unevenness < best[0]:
            best = (unevenness, {label: boxes for label, boxes in parts.items() if len(boxes) > 1})
    return best[1] if best[0] < _unevenness([label.box for label in chart.labels]) else {}


def _unevenness(labels: Sequence[Box]) -> float:
    """By which share the middles of neighbouring labels are nearer or farther than most, at most."""
    if len(labels) < LEAST_TICKS:
        return np.inf
    steps = np.diff(sorted((box.left + box.right) / 2 for box in labels))
    middle = float(np.median(steps))
    return float(np.abs(steps - middle).max()) / middle if middle > 0 else np.inf


def _first_row(lines: Sequence[ReadLine]) -> tuple[ReadLine, ...]:
    """The lines that stand as high as the highest one."""
    top = min((line.box.top for line in lines), default=0)
    height = max((line.box.height for line in lines), default=0)
    return tuple(sorted((line for line in lines if line.box.top < top + height), key=lambda line: line.box.left))


def _axis(lines: Sequence[ReadLine], direction: Direction) -> Axis | None:
    """The axis with the most numbers that stand where they should."""
    across: Side = "y" if direction == "up" else "x"
    numbers = [(_centre(line, across), _number(line.text), line) for line in lines if _may_be_tick(line)]
    best: Axis | None = None
    if len(numbers) > _MOST_NUMBERS:
        return None
    for (place, value, line), (other_place, other_value, other) in itertools.combinations(numbers, 2):
        if value is None or other_value is None or value == other_value or not _is_aligned(line, other, direction):
            continue
        if abs(place - other_place) < 2 * line.box.height:
            continue
        step = (other_value - value) / (other_place - place)
        if (step > 0) == (direction == "up"):
            continue
        start = value - step * place
        ticks = [
            (at, said, tick) for at, said, tick in numbers if said is not None and _is_aligned(tick, line, direction)
        ]
        span = max(abs(said) for _, said, _ in ticks) or 1.0
        agreeing = [tick for at, said, tick in ticks if abs(start + step * at - said) <= _TOLERANCE * span]
        # Of the numbers of a column some agree by chance.
        if len(agreeing) >= max(LEAST_TICKS, len(ticks) // 2 + 1) and (best is None or len(agreeing) > len(best.ticks)):
            best = Axis(direction, start, step, tuple(agreeing))
    return best


def _may_be_tick(line: ReadLine) -> bool:
    return line.is_number or line.text in _LIKE_ZERO


def _number(text: str) -> float | None:
    return 0.0 if text in _LIKE_ZERO else number_of(text)


def _is_aligned(first: ReadLine, second: ReadLine, direction: Direction) -> bool:
    """Whether two numbers can belong to one axis: with one right side, or on one height."""
    height = max(first.box.height, second.box.height)
    if direction == "up":
        return abs(first.box.right - second.box.right) < 0.8 * height
    return abs(first.box.top + first.box.bottom - second.box.top - second.box.bottom) < 0.8 * height


def _centre(line: ReadLine, across: Side) -> float:
    box = line.box
    return (box.left + box.right) / 2 if across == "x" else (box.top + box.bottom) / 2


def _top(strip: Float32Array, base: int, colour: Float32Array, ground: Float32Array) -> int:
    """Where a bar ends: above it some rows are nearer to the ground than to its colour."""
    rows = np.median(strip, axis=1)
    is_bar = np.abs(rows - colour).sum(1) < np.abs(rows - ground).sum(1)
    top = base
    while top > 0 and is_bar[max(0, top - 3) : top].any():
        top -= 1
    while top < base and not is_bar[top]:
        top += 1
    return top


def written(value: float) -> str:
    """Write a number that was measured, to three digits."""
    return re.sub(r"(\.\d*?)0+$", r"\1", f"{float(f'{value:.3g}'):f}").rstrip(".")
