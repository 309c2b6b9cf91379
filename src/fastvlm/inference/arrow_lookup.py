"""Tells where an arrow on a sign points, by its shape: the one part of the ink that is no letter."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from fastvlm.batches import BoolArray, UInt8Array
from fastvlm.inference.page import Found, Page, ReadLine
from fastvlm.inference.text_lookup import MOST_ROWS_OF_A_SHORT_TEXT, SURE_OF_LETTER
from fastvlm.processing.ink import EIGHT_NEIGHBOURS, MOST_PARTS
from fastvlm.processing.text_lines import Box, enlarged

_ARROW_QUESTION = re.compile(
    r"\bwhere\b.*\barrow\b.*\b(?:points?|leads?|go|goes|shows?|directs?)|"
    r"\b(?:which|what) (?:way|side|direction)\b.*\barrow\b|\bdirection of (?:the )?arrow\b|"
    r"\barrow\b.*\b(?:which|what) (?:way|side|direction)\b",
    re.I,
)
_MAX_SIDE_PX = 640
"""Larger pictures are looked at smaller."""

_MOST_SHAPES = 60
"""A picture with more shapes that are no letters of lines that were read is a page that was not read, or a texture."""

_LEAST_DIFFERENCE = 60
"""Between a sign and what is written on it, the three colours together."""

_LEAST_PX = 12
"""Long side of an arrow."""

_SYMMETRIC, _LESS_SYMMETRIC = 0.7, 0.12
"""What the two halves of an arrow along its shaft have in common, as a share, and by how much that is less across."""

_HARDLY_READ, _LONGEST = 0.05, 2.0
"""What an arrow is read with as several letters, and how long it is at most, by its height."""

_AS_LARGE = 0.5
"""Of two arrows neither is meant more where the smaller one has so much of the room of the other."""

_SURE = 0.9
"""How often the side that an arrow points to is seen right, by about."""


def asks_for_arrow(question: str) -> bool:
    """Whether a question asks where an arrow points."""
    return bool(_ARROW_QUESTION.search(question))


def look_up_arrow(question: str, page: Page) -> Found | None:
    """Answer where the arrow of a sign points: left, right, up or down; None for other questions, and without one."""
    # The arrow may be read as one more row.
    if not asks_for_arrow(question) or page.picture is None or len(page.rows) > MOST_ROWS_OF_A_SHORT_TEXT + 1:
        return None
    shrunk_by = max(1.0, max(page.picture.shape[:2]) / _MAX_SIDE_PX)
    words = [line.box for line in page.lines if not _may_be_arrow(line)]
    shapes = [
        (enlarged(box, shrunk_by, page.picture), part)
        for box, part in _parts(_drawn(_smaller(page.picture, shrunk_by)))
        if not any(_is_inside(enlarged(box, shrunk_by, page.picture), word) for word in words)
    ]
    if len(shapes) > _MOST_SHAPES:
        return None
    arrows = [(box, direction) for box, part in shapes if (direction := _direction(part)) is not None]
    largest = max((_area(box) for box, _ in arrows), default=0)
    arrows = [(box, direction) for box, direction in arrows if _area(box) >= _AS_LARGE * largest]
    if len({direction for _, direction in arrows}) != 1:
        return None
    box, direction = arrows[0]
    return Found(direction, ReadLine("", box, _SURE), _SURE)


def _may_be_arrow(line: ReadLine) -> bool:
    """Whether a line may be an arrow that was read: as a letter, with doubt, or as several, with hardly any trust."""
    is_letter = len(line.text.strip()) == 1 and line.confidence < SURE_OF_LETTER
    is_hardly_read = line.confidence < _HARDLY_READ and line.box.width < _LONGEST * line.box.height
    return is_letter or is_hardly_read


def _smaller(picture: UInt8Array, shrunk_by: float) -> UInt8Array:
    if shrunk_by == 1:
        return picture
    height, width, _ = picture.shape
    size = max(1, round(width / shrunk_by)), max(1, round(height / shrunk_by))
    return np.asarray(Image.fromarray(picture).resize(size))


def _area(box: Box) -> int:
    return box.width * box.height


def _drawn(picture: UInt8Array) -> BoolArray:
    """What differs from the ground of a sign, the colour that most of its middle has, as its letters do."""
    height, width, _ = picture.shape
    middle = picture[height // 4 : height - height // 4, width // 4 : width - width // 4].reshape(-1, 3)
    difference = np.abs(picture.astype(np.float32) - np.median(middle, axis=0)).sum(axis=2)
    most = np.quantile(difference[height // 8 : height - height // 8, width // 8 : width - width // 8], 0.98)
    drawn: BoolArray = difference > max(most / 2, _LEAST_DIFFERENCE)
    return drawn


def _parts(ink: BoolArray) -> Iterator[tuple[Box, BoolArray]]:
    """Ink that hangs together, but for specks and frames; none of a picture that is no sign."""
    from scipy import ndimage

    labels, num_parts = ndimage.label(ink, EIGHT_NEIGHBOURS)
    if num_parts > MOST_PARTS:
        return
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        # The frame of a sign, and what is around it, reach the sides of the picture or nearly so.
        is_frame = height > 0.8 * ink.shape[0] or width > 0.8 * ink.shape[1]
        if max(height, width) >= _LEAST_PX and min(height, width) >= _LEAST_PX / 2 and not is_frame:
            yield Box(columns.start, rows.start, columns.stop, rows.stop), labels[rows, columns] == number


def _is_inside(box: Box, word: Box) -> bool:
    middle_x, middle_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return word.left <= middle_x <= word.right and word.top <= middle_y <= word.bottom


def _direction(part: BoolArray) -> str | None:
    """The side that a shape points to whose halves along one axis are alike, and across it are not."""
    upper_and_lower, left_and_right = _overlap(part, part[::-1]), _overlap(part, part[:, ::-1])
    if max(upper_and_lower, left_and_right) < _SYMMETRIC or abs(upper_and_lower - left_and_right) < _LESS_SYMMETRIC:
        return None
    lies = upper_and_lower > left_and_right
    along = part if lies else part.T
    # Of all that stands across the shaft the head is widest, and its widest place lies behind its tip; a triangle is a
    # head alone, which is widest at its other end.
    across = np.array([np.ptp(np.flatnonzero(column)) + 1 if column.any() else 0 for column in along.T])
    widest = float(np.flatnonzero(across >= 0.9 * across.max()).mean())
    is_far = widest > (len(across) - 1) / 2
    end = across[-1 - len(across) // 10 :] if is_far else across[: 1 + len(across) // 10]
    if end.max() >= 0.9 * across.max():
        is_far = not is_far
    return ("right" if is_far else "left") if lies else ("down" if is_far else "up")


def _overlap(first: BoolArray, second: BoolArray) -> float:
    """What two shapes have in common, as a share of all that either has."""
    return float((first & second).sum() / (first | second).sum())
