"""Where boxes to tick stand on a picture, and which of them are ticked, by their ink alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastvlm.batches import BoolArray, Float32Array, UInt8Array
from fastvlm.processing.ink import EIGHT_NEIGHBOURS, MOST_PARTS, ink_of
from fastvlm.processing.text_lines import Box, Gap, enlarged, gaps_of, grey_to_search, split

_SIDE_PX = 8, 80
"""Of a box at least, so that there is an inside, and at most; larger ones hold text."""

_FRAME_OF_PART = 0.55
"""Of ink that hangs together, the share that a side of a frame goes straight through: a tick may reach out of it."""

_ENDS = 1.35
"""A side of a frame ends where the frame does, up to this share of it: that of a P goes on."""

_SQUARE = 1.3
"""Sides of a box differ by so much at most."""

_FULL_SIDE = 0.85
"""Of a frame's side, how much is ink: the round sides of letters are less."""

_FULL_CORNER = 0.25
"""Of a corner as wide as a stroke, how much is ink, even where it is rounded: that of an 8 or of a B is less."""

_THICKNESS = 0.12
"""Of a frame, by its side: two strokes of which are looked through for a side that slants, one for what is inside."""

_APART = 0.5
"""Of its side, which is free of other ink on the left and on the right of a box: letters stand closer."""

_SPECKS = 0.08
"""How much of that may be ink all the same: noise."""

_AS_DARK = 0.5
"""What is so much nearer to the grey of a frame than to that of the paper is as dark as the frame."""

_UNEVEN = 0.3
"""Of its side, by which the edges of a box may be apart from those of the one below it."""

_HEIGHT_IN_LINE = 0.6
"""Of a line of text, how high a box that stands in it is at least."""

_TICKED = 0.1
"""Of the inside, how much is ink where a box is ticked."""


class TickBox(NamedTuple):
    """A box to tick, its frame included, and whether it is ticked, crossed or filled."""

    box: Box
    is_ticked: bool


def find_tick_boxes(picture: UInt8Array) -> list[TickBox]:
    """Find square frames as large as letters on a picture, uint8 of H x W x 3, from top to bottom.

    Letters with straight sides all around, of typefaces that have such, are found too. Raises ImageError on other
    arrays.
    """
    from scipy import ndimage

    grey, shrunk_by = grey_to_search(picture)
    ink = ink_of(grey)
    labels, num_parts = ndimage.label(ink, EIGHT_NEIGHBOURS)
    if num_parts > MOST_PARTS:
        return []
    least_px, most_px = _SIDE_PX
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        sides = rows.stop - rows.start, columns.stop - columns.start
        if least_px <= min(sides) and max(sides) <= 2 * most_px:
            frame = _frame(labels[rows, columns] == number)
            if frame is not None:
                box = frame.moved(columns.start, rows.start)
                if not _stands_apart(box, labels, number):
                    continue
                found.append(TickBox(enlarged(box, shrunk_by, picture), _is_ticked(box, ink, grey)))
    return sorted(found, key=lambda one: (one.box.top, one.box.left))


def without_tick_boxes(lines: Sequence[Box], picture: UInt8Array) -> list[Box]:
    """Lines of text without the boxes to tick that stand in them, several of which are below or beside each other.

    What stands between two of them is a line of its own.
    """
    boxes = [found.box for found in find_tick_boxes(picture)]
    boxes = [box for box in boxes if any(_are_alike(box, other) for other in boxes if other is not box)]
    return [part for line in lines for part in _parts(line, boxes, picture)]


def _are_alike(first: Box, second: Box) -> bool:
    """Whether two boxes are as large, and stand in one column or in one row."""
    slack = _UNEVEN * first.width
    left, top, right, bottom = (abs(one - other) <= slack for one, other in zip(first, second, strict=True))
    is_as_large = abs(first.height - second.height) <= _UNEVEN * first.height
    return is_as_large and ((left and right) or (top and bottom))


def _parts(line: Box, boxes: Sequence[Box], picture: UInt8Array) -> list[Box]:
    inside = [
        box
        for box in boxes
        if line.top < (box.top + box.bottom) / 2 < line.bottom
        and box.height >= _HEIGHT_IN_LINE * line.height
        and line.left - _UNEVEN * box.width <= box.left < line.right
    ]
    if not inside:
        return [line]
    gaps = gaps_of(picture, line)
    cuts = [(box, cut) for box in sorted(inside) if (cut := _cut(box, line, gaps)) is not None]
    # In the middle of a line a box stands further from what belongs to another one than from its own name.
    kept = [cut for box, cut in cuts if cut.start == line.left or box.left - cut.start >= box.width]
    return [part for part in split(line, kept) if part.width > 0]


def _cut(box: Box, line: Box, gaps: Sequence[Gap]) -> Gap | None:
    """A box with the space on both sides of it; None where it has neither."""
    before = [gap.start for gap in gaps if gap.stop <= box.left + 1]
    behind = [gap.stop for gap in gaps if gap.stop > box.right]
    if not before and not behind:
        return None
    return Gap(max(before, default=line.left), min(behind, default=line.right))


def _frame(part: BoolArray) -> Box | None:
    """The square frame that a part of the ink is, or that a tick hangs on; None for other parts."""
    in_rows, in_columns = _longest_runs(part), _longest_runs(part.T)
    across = np.flatnonzero(in_rows >= _FRAME_OF_PART * part.shape[1])
    along = np.flatnonzero(in_columns >= _FRAME_OF_PART * part.shape[0])
    if not len(across) or not len(along):
        return None
    box = Box(int(along[0]), int(across[0]), int(along[-1]) + 1, int(across[-1]) + 1)
    if max(in_rows[across]) > _ENDS * box.width or max(in_columns[along]) > _ENDS * box.height:
        return None
    least_px, most_px = _SIDE_PX
    small, large = sorted((box.width, box.height))
    if small < least_px or large > min(most_px, _SQUARE * small):
        return None
    thick = max(2, round(_THICKNESS * small))
    whole = Box(0, 0, part.shape[1], part.shape[0])
    if max(abs(edge - end) for edge, end in zip(box, whole, strict=True)) <= thick:
        box = whole  # whose corners are those of an O, too, of which only the straight parts were seen
    framed = part[box.top : box.bottom, box.left : box.right]
    deep = max(2, round(2 * _THICKNESS * small))
    sides = (framed[:deep].any(0), framed[-deep:].any(0), framed[:, :deep].any(1), framed[:, -deep:].any(1))
    corners = [framed[down, right].mean() for down in _ends(thick) for right in _ends(thick)]
    return box if min(corners) >= _FULL_CORNER and min(side.mean() for side in sides) >= _FULL_SIDE else None


def _ends(length: int) -> tuple[slice, slice]:
    return slice(length), slice(-length, None)


def _stands_apart(box: Box, labels: npt.NDArray[np.int32], number: int) -> bool:
    """Whether no other ink stands close beside a box."""
    gap_px = max(2, round(_APART * box.width))
    beside = (slice(max(0, box.left - gap_px), box.left), slice(box.right, box.right + gap_px))
    parts = [labels[box.top : box.bottom, columns] for columns in beside]
    return all(((part != 0) & (part != number)).mean() <= _SPECKS for part in parts if part.size)


def _longest_runs(part: BoolArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Of each row, how many pixels of ink follow each other at most."""
    num_here = np.zeros(len(part), dtype=np.int64)
    longest = num_here.copy()
    for column in part.T:
        num_here = (num_here + 1) * column
        longest = np.maximum(longest, num_here)
    return longest


def _is_ticked(box: Box, ink: BoolArray, grey: Float32Array) -> bool:
    """Whether something stands in a frame, whose own strokes are as thick as its sides are where it stands alone.

    A large box that is filled is ink at its sides alone, by its surroundings: it is as dark as these all through.
    """
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    inset = max(2, round(_THICKNESS * min(box.width, box.height)) + 1)
    framed = grey[rows, columns]
    frame, inside = np.median(framed[ink[rows, columns]]), framed[inset:-inset, inset:-inset]
    around = grey[max(0, box.top - inset) : box.bottom + inset, max(0, box.left - inset) : box.right + inset]
    paper = np.median(np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]]))
    is_dark = np.abs(inside - frame) < _AS_DARK * np.abs(inside - paper)
    return bool((ink[rows, columns][inset:-inset, inset:-inset] | is_dark).mean() > _TICKED)
