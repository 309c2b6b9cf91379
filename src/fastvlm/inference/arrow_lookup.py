"""Tells where an arrow on a sign points, by its shape: the one part of the ink that is no letter."""

from __future__ import annotations

import re

import numpy as np

from fastvlm.batches import UInt8Array
from fastvlm.inference.page import Found, Page, ReadLine
from fastvlm.inference.text_lookup import MOST_ROWS_OF_A_SHORT_TEXT
from fastvlm.processing.ink import BoolArray
from fastvlm.processing.text_lines import Box

_ARROW_QUESTION = re.compile(
    r"\b(?:arrow\b.*\b(?:points?|leads?|go|goes|shows?|directs?)|(?:direction|way|side|point|points|lead|leads)\b.*\barrow)\b",
    re.I,
)
_MOST_PARTS = 20_000
"""A picture with more ink that hangs together is a texture, and no sign."""

_LEAST_DIFFERENCE = 60
"""Between a sign and what is written on it, the three colours together."""

_LEAST_PX = 12
"""Long side of an arrow."""

_SYMMETRIC, _LESS_SYMMETRIC = 0.7, 0.12
"""What the two halves of an arrow along its shaft have in common, as a share, and by how much that is less across."""

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
    words = [line.box for line in page.lines if len(line.text.strip()) > 1]
    arrows = [
        (box, direction)
        for box, part in _parts(_drawn(page.picture))
        if not any(_is_inside(box, word) for word in words) and (direction := _direction(part)) is not None
    ]
    if not arrows:
        return None
    box, direction = max(arrows, key=lambda arrow: arrow[0].width * arrow[0].height)
    return Found(direction, ReadLine("", box, _SURE), _SURE)


def _drawn(picture: UInt8Array) -> BoolArray:
    """What differs from the ground of a sign, the colour that most of its middle has, as its letters do."""
    height, width, _ = picture.shape
    middle = picture[height // 4 : height - height // 4, width // 4 : width - width // 4].reshape(-1, 3)
    difference = np.abs(picture.astype(np.float32) - np.median(middle, axis=0)).sum(axis=2)
    most = np.quantile(difference[height // 8 : height - height // 8, width // 8 : width - width // 8], 0.98)
    drawn: BoolArray = difference > max(most / 2, _LEAST_DIFFERENCE)
    return drawn


def _parts(ink: BoolArray) -> list[tuple[Box, BoolArray]]:
    """Ink that hangs together, but for specks and frames; none of a picture that is no sign."""
    from scipy import ndimage

    labels, num_parts = ndimage.label(ink, np.ones((3, 3), dtype=bool))
    if num_parts > _MOST_PARTS:
        return []
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        # The frame of a sign, and what is around it, reach the sides of the picture or nearly so.
        is_frame = height > 0.8 * ink.shape[0] or width > 0.8 * ink.shape[1]
        if max(height, width) >= _LEAST_PX and min(height, width) >= _LEAST_PX / 2 and not is_frame:
            found.append((Box(columns.start, rows.start, columns.stop, rows.stop), labels[rows, columns] == number))
    return found


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
