"""A page as a model read it, line by line: what its lines say, and how they stand to each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property

from fastvlm.batches import UInt8Array
from fastvlm.processing.text_lines import Box, rows_of
from fastvlm.processing.tick_boxes import TickBox, find_tick_boxes

_CENTRED = 0.6
"""Centres of two lines above each other are apart by less than this share of the wider one."""


@dataclass(frozen=True)
class ReadLine:
    """A line, where it stands, and the probability, from 0 to 1, that the model gave to what it read at first.

    is_cut: whether it goes on behind what was read.
    """

    text: str
    box: Box
    confidence: float
    is_cut: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is a number, an amount or a share, whatever stands around its digits."""
        kept = re.sub(r"[^\w.]", "", self.text)
        num_digits = sum(character.isdigit() for character in kept)
        return num_digits > 0 and num_digits >= len(kept) / 2


@dataclass(frozen=True)
class Found:
    """An answer, the line that it was read from, and how likely it is to be right, from 0 to 1.

    is_measured: whether it was measured at the line, a bar by its height, and not read.
    """

    text: str
    line: ReadLine
    confidence: float
    is_measured: bool = False


def surest(found: Iterable[Found | None]) -> Found | None:
    """What is likeliest to be right; None of nothing."""
    return max((one for one in found if one is not None), key=lambda one: one.confidence, default=None)


def joined_line(words: Sequence[ReadLine]) -> ReadLine:
    """Lines as one, which is read right where all of them are."""
    boxes = [word.box for word in words]
    box = Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )
    text = " ".join(word.text.replace("\n", " ") for word in words)
    confidence = math.prod(word.confidence for word in words)
    return ReadLine(text, box, confidence, is_cut=any(word.is_cut for word in words))


class Page:
    """Lines of a page, as the rows that they form: from top to bottom, each from left to right.

    picture: what they were read from, uint8 of H x W x 3, where it is at hand.
    """

    def __init__(self, lines: Sequence[ReadLine], picture: UInt8Array | None = None) -> None:
        self.picture = picture
        self.rows = rows_of(lines, lambda line: line.box)
        self.lines = [line for row in self.rows for line in row]

    @cached_property
    def tick_boxes(self) -> list[TickBox]:
        """The boxes to tick of its picture, none where that is not at hand."""
        return [] if self.picture is None else find_tick_boxes(self.picture)

    @property
    def text(self) -> str:
        """What the page says, a row a line."""
        return "\n".join(joined_line(row).text for row in self.rows)

    def beside(self, line: ReadLine) -> list[ReadLine]:
        """What stands on the height of a line, from left to right, without it."""
        found = [other for other in self.lines if other is not line and _overlap(_height(other), _height(line)) > 0.5]
        return sorted(found, key=lambda other: other.box.left)

    def right_of(self, line: ReadLine) -> list[ReadLine]:
        """What stands on the right of a line, the nearest first."""
        return [other for other in self.beside(line) if other.box.left >= line.box.right - 2]

    def left_of(self, line: ReadLine) -> list[ReadLine]:
        """What stands on the left of a line, the farthest first."""
        return [other for other in self.beside(line) if other.box.right <= line.box.left + 2]

    def number_above(self, label: ReadLine) -> ReadLine | None:
        """The next number above a label, centred over it, as over the bars of a chart."""
        found = [
            line
            for line in self.lines
            if line.is_number
            and line.box.bottom <= label.box.top + 2
            and abs(line.box.left + line.box.right - label.box.left - label.box.right)
            < 2 * _CENTRED * max(label.box.width, line.box.width)
        ]
        return max(found, key=lambda line: line.box.bottom, default=None)

    def below(self, label: ReadLine) -> ReadLine | None:
        """The next line below a label that begins where it does."""
        height = label.box.height
        found = [
            line
            for line in self.lines
            if abs(line.box.left - label.box.left) < 1.5 * height
            and 0 <= line.box.top - label.box.bottom < 1.2 * height
        ]
        return min(found, key=lambda line: line.box.top, default=None)

    def column_of(self, heading: ReadLine) -> list[ReadLine]:
        """What stands below a heading, as wide or not, from top to bottom."""
        return [
            line
            for line in self.lines
            if line.box.top >= heading.box.bottom - 3 and _overlap(_width(line), _width(heading)) > 0.3
        ]

    def cell(self, row: ReadLine, heading: ReadLine) -> ReadLine | None:
        """Where the row of one line and the column below another meet."""
        column = self.column_of(heading)
        found = [line for line in self.beside(row) if any(line is other for other in column)]
        return max(found, key=lambda line: _overlap(_width(line), _width(heading)), default=None)


def likeness(first: str, second: str) -> float:
    """How much two texts are alike, from 0 to 1; a capital letter is another one than a small one."""
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


def differ_by_one(first: str, second: str) -> bool:
    """Whether two texts are as long and differ in one character."""
    return len(first) == len(second) and sum(one != other for one, other in zip(first, second, strict=True)) == 1


def number_of(text: str) -> float | None:
    """The number that a text is, with thousands, a share or a currency; None for other texts."""
    found = re.fullmatch(r"[^\w.-]*(-?\d[\d,]*(?:\.\d+)?|-?\.\d+)[^\w.]*", text.strip())
    return float(found[1].replace(",", "")) if found else None


def _width(line: ReadLine) -> tuple[int, int]:
    return line.box.left, line.box.right


def _height(line: ReadLine) -> tuple[int, int]:
    return line.box.top, line.box.bottom


def _overlap(first: tuple[int, int], second: tuple[int, int]) -> float:
    """What two stretches have in common, as a share of the shorter one."""
    common = min(first[1], second[1]) - max(first[0], second[0])
    return common / max(1, min(first[1] - first[0], second[1] - second[0]))
