"""Where lines of text stand on a picture, found by their ink alone: no weights, and nothing is read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from fastvlm.batches import BoolArray, Float32Array, UInt8Array
from fastvlm.errors import ImageError
from fastvlm.processing.ink import DARK, EIGHT_NEIGHBOURS, ink_of

_MAX_SIDE_PX = 2048
"""Larger pictures are searched made smaller: their letters stay large enough to be found."""

_LETTER_PX = 5, 0.08, 60
"""Height of letters at least, in pixels, and at most: as a share of the long side, or in pixels where that is more."""

_LETTER_GAP = 0.6
_WORD_GAP = 1.0
"""Up to this many heights of letters apart, ink belongs to one word, and words to one line."""

SPACE = 0.25
_SPACE_OF_WIDEST = 0.6
"""Between words of a line: by its height at least, and as a share of its widest gap."""

_MOST_GAP = 3.0
"""Heights of letters that words of one line are apart at most, of the largest letters that count as text."""

_MOST_WORDS = 4000
"""A picture with more is a texture, not a page."""

_RULE = 3.0
"""Ink that goes straight on for so many heights of letters is a rule: no stroke of a letter does."""

_PATCH = 0.85
"""A part as wide as high, or up to four times as wide, that is so full of ink is no letter."""

_DOT = 0.35
"""A dot is so large at most, by the height of letters."""

_LEAST_DOTS, _LEAST_LEADER, _MOST_LETTERS_IN_LEADER = 5, 2.0, 0.2
"""Dots that lead from a label to its value, heights of letters that they reach, and a share of columns with others."""

_SIDE_OF_BOX = 1.8
"""A thin upright stroke that is so many letters high is the side of a box, and no letter."""

_BANDS_IN_BANDS = 3
_BAND_STEP, _MOST_BANDS, _LEAST_BAND, _FULL_BAND = 2, 60, (60, 14), 0.8
"""Of bands of another ground: every which pixel is looked at; of a picture with more parts, none is one; width and
height at least, in pixels; and how much of its sides is of its ground.
"""

IntArray = npt.NDArray[np.int64]
Thing = TypeVar("Thing")


class Box(NamedTuple):
    """A part of a picture in pixels; right and bottom are just outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """From top to bottom."""
        return self.bottom - self.top

    def moved(self, right_px: int, down_px: int) -> Box:
        """As large, elsewhere."""
        return Box(self.left + right_px, self.top + down_px, self.right + right_px, self.bottom + down_px)


class Gap(NamedTuple):
    """Columns without ink, in pixels; stop is just outside of it."""

    start: int
    stop: int

    @property
    def width(self) -> int:
        """From left to right."""
        return self.stop - self.start


def find_text_lines(picture: UInt8Array) -> list[Box]:
    """Find lines of text on a picture, uint8 of H x W x 3, from top to bottom and from left to right.

    What stands far apart on one height, such as the cells of a table's row, are lines of their own. Text that slants by
    more than some degrees, handwriting, and light text on dark parts of a light picture, or the other way round, unless
    these are bands with straight sides, are found in part or not at all. Raises ImageError on other arrays.
    """
    grey, shrunk_by = grey_to_search(picture)
    boxes = _in_rows(_lines_on(grey, _BANDS_IN_BANDS))
    return [enlarged(box, shrunk_by, picture) for box in boxes]


def grey_to_search(picture: UInt8Array) -> tuple[Float32Array, float]:
    """A picture in greys, no larger than letters need to be found, and by how much it was made smaller.

    Raises ImageError for an array that is no picture of uint8 and H x W x 3.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ImageError(f"Expected a picture of uint8 and H x W x 3, got {picture.dtype} and {picture.shape}.")
    image = Image.fromarray(picture).convert("L")
    shrunk_by = max(1.0, max(image.size) / _MAX_SIDE_PX)
    if shrunk_by > 1:
        image = image.resize((max(1, round(image.width / shrunk_by)), max(1, round(image.height / shrunk_by))))
    return np.asarray(image, dtype=np.float32), shrunk_by


def enlarged(box: Box, shrunk_by: float, picture: UInt8Array) -> Box:
    """What was found on a picture that was made smaller, in the pixels of the picture."""
    left, top, right, bottom = (edge * shrunk_by for edge in box)
    return Box(int(left), int(top), min(picture.shape[1], round(right)), min(picture.shape[0], round(bottom)))


def gaps_of(picture: UInt8Array, line: Box) -> list[Gap]:
    """Find where a line has no ink from top to bottom, from left to right."""
    around = line.height
    top, left = max(0, line.top - around), max(0, line.left - around)
    part = picture[top : line.bottom + around, left : line.right + around]
    ink = ink_of(np.asarray(Image.fromarray(np.ascontiguousarray(part)).convert("L"), dtype=np.float32))
    columns = np.flatnonzero(ink[line.top - top : line.bottom - top, line.left - left : line.right - left].any(axis=0))
    return [
        Gap(line.left + int(end) + 1, line.left + int(start))
        for end, start in itertools.pairwise(columns)
        if start > end + 1
    ]


def words_of(line: Box, gaps: Sequence[Gap]) -> list[Box]:
    """Split a line at the widest of its gaps, from left to right; one without gaps between words stays whole."""
    widest_px = max((gap.width for gap in gaps), default=0)
    least_px = max(SPACE * line.height, _SPACE_OF_WIDEST * widest_px)
    return split(line, [gap for gap in gaps if gap.width >= least_px])


def split(line: Box, gaps: Sequence[Gap]) -> list[Box]:
    """The parts of a line between some gaps."""
    starts, stops = [line.left, *(gap.stop for gap in gaps)], [*(gap.start for gap in gaps), line.right]
    return [line._replace(left=start, right=stop) for start, stop in zip(starts, stops, strict=True)]


class _Parts:
    """Ink that hangs together. widths, heights: of its parts, in pixels. areas: how many of these are ink."""

    def __init__(self, ink: BoolArray) -> None:
        from scipy import ndimage

        self._labels, num_parts = ndimage.label(ink, EIGHT_NEIGHBOURS)
        boxes = _boxes(self._labels)
        self.widths, self.heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        self.areas = np.bincount(self._labels.ravel(), minlength=num_parts + 1)[1:]

    def mask(self, is_meant: BoolArray) -> BoolArray:
        """The pixels of those parts that are meant."""
        mask: BoolArray = np.concatenate([[False], is_meant])[self._labels]
        return mask


def _lines_of(ink: BoolArray) -> list[Box]:
    from scipy import ndimage

    parts = _Parts(ink)
    widths, heights, areas = parts.widths, parts.heights, parts.areas
    least_px, most_share, most_px = _LETTER_PX
    could_be_letter = (heights >= least_px) & (heights <= max(most_share * max(ink.shape), most_px))
    could_be_letter &= (widths <= 6 * np.maximum(heights, 8)) & (areas >= 8)
    if not could_be_letter.any():
        return []
    letter_px = float(np.median(heights[could_be_letter]))
    touched = parts.mask(
        (widths > 2 * _RULE * letter_px) & (heights <= _RULE * letter_px) & (heights > 0.5 * letter_px)
    )
    if touched.any():
        # Letters that a rule of a form joined are parts of their own without it.
        rules = ndimage.binary_opening(touched, np.ones((1, round(_RULE * letter_px)), dtype=bool))
        parts = _Parts(ink & ~rules)
        widths, heights, areas = parts.widths, parts.heights, parts.areas
    # Dots and dashes belong to text too; frames, rules, specks and the patches of colour of a legend do not.
    is_text = (heights >= max(2, 0.1 * letter_px)) & (heights <= 3 * letter_px) & (widths <= 12 * letter_px)
    is_patch = (areas >= _PATCH * widths * heights) & (heights >= 0.45 * letter_px)
    is_patch &= (widths <= 4 * heights) & (heights <= 1.5 * widths)
    is_text &= (areas >= 3) & ~is_patch & ~((widths > 4 * letter_px) & (heights < 0.4 * letter_px))
    is_text &= ~((heights > _SIDE_OF_BOX * letter_px) & (widths < 0.3 * letter_px))
    text = parts.mask(is_text)
    text &= ~_leaders(parts.mask(is_text & (np.maximum(widths, heights) <= _DOT * letter_px)), text, letter_px)
    gap_px = round(_LETTER_GAP * letter_px) | 1
    closed = ndimage.binary_closing(np.pad(text, ((0, 0), (gap_px, gap_px))), np.ones((1, gap_px), dtype=bool))
    words, _ = ndimage.label(closed[:, gap_px:-gap_px] | text, EIGHT_NEIGHBOURS)
    if len(boxes := _boxes(words)) > _MOST_WORDS:
        return []
    amounts = np.bincount((words * text).ravel(), minlength=int(words.max()) + 1)[1:]
    lines = _joined([Box(*box) for box in boxes[amounts >= 6].tolist()], letter_px)
    lines = [line for line in lines if line.height >= 0.5 * letter_px and line.width >= 0.15 * letter_px]
    return _in_rows(lines)


def _lines_on(grey: Float32Array, depth: int) -> list[Box]:
    """Lines on a page and, each by itself, on bands of another ground. depth: how many bands may lie in each other."""
    ink = ink_of(grey)
    boxes = []
    for band in _bands(grey) if depth else []:
        rows, columns = slice(band.top, band.bottom), slice(band.left, band.right)
        ink[rows, columns] = False
        boxes += [box.moved(band.left, band.top) for box in _lines_on(grey[rows, columns], depth - 1)]
    return [*boxes, *_lines_of(ink)]


def _in_rows(lines: Sequence[Box]) -> list[Box]:
    return [line for row in rows_of(lines, lambda line: line) for line in row]


def _bands(grey: Float32Array) -> list[Box]:
    """Dark bands of a light page, or light ones of a dark page: heads of tables, buttons, bars with a number."""
    from scipy import ndimage

    # Every second pixel each way tells the same.
    small = grey[::_BAND_STEP, ::_BAND_STEP]
    is_other = small < DARK if np.median(small) >= DARK else small >= DARK
    # Strokes of letters are thinner than a band.
    labels, num_parts = ndimage.label(ndimage.binary_opening(is_other, np.ones((3, 3), dtype=bool)))
    if not 0 < num_parts <= _MOST_BANDS:
        return []
    bands = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        part = labels[rows, columns] == number
        # Its text lies inside: a slice of a pie, or part of a photo, reaches its own sides in places alone.
        sides = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        is_full = sides.mean() >= _FULL_BAND
        if height * _BAND_STEP >= _LEAST_BAND[1] and width * _BAND_STEP >= _LEAST_BAND[0] and is_full:
            left, top = columns.start * _BAND_STEP, rows.start * _BAND_STEP
            bands.append(
                Box(
                    left, top, min(columns.stop * _BAND_STEP, grey.shape[1]), min(rows.stop * _BAND_STEP, grey.shape[0])
                )
            )
    return bands


def _leaders(dots: BoolArray, text: BoolArray, letter_px: float) -> BoolArray:
    """Of dots those that lead from a label to its value: many beside each other, and no letters among them."""
    from scipy import ndimage

    gap_px = round(letter_px) | 1
    closed = ndimage.binary_closing(np.pad(dots, ((0, 0), (gap_px, gap_px))), np.ones((1, gap_px), dtype=bool))
    runs, _ = ndimage.label(closed[:, gap_px:-gap_px] | dots, EIGHT_NEIGHBOURS)
    leaders = np.zeros_like(dots)
    for number, (rows, columns) in enumerate(ndimage.find_objects(runs), start=1):
        is_long = columns.stop - columns.start >= _LEAST_LEADER * letter_px
        if not is_long or rows.stop - rows.start > 1.5 * _DOT * letter_px:
            continue
        run = dots[rows, columns] & (runs[rows, columns] == number)
        # Over an i stands a dot, too, but there is the rest of it.
        below = slice(rows.start, rows.stop + round(0.8 * letter_px))
        letters = (text[below, columns] & ~dots[below, columns]).any(axis=0).mean()
        if ndimage.label(run.any(axis=0))[1] >= _LEAST_DOTS and letters < _MOST_LETTERS_IN_LEADER:
            leaders[rows, columns] |= run
    return leaders


def _boxes(labels: npt.NDArray[np.int32]) -> IntArray:
    """Left, top, right and bottom of what has each label from 1 on, N x 4."""
    from scipy import ndimage

    found = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in ndimage.find_objects(labels)]
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def _joined(words: Sequence[Box], letter_px: float) -> list[Box]:
    """Join words of one line; dots and dashes go with the letters that they stand beside."""
    lines: list[Box] = []
    may_go_on: list[int] = []
    for word in sorted(words):
        nearest = None
        # Words come from left to right: a line that ended far before this one has ended.
        may_go_on = [place for place in may_go_on if lines[place].right >= word.left - _MOST_GAP * letter_px]
        for place in may_go_on:
            line = lines[place]
            if _goes_on(line, word, letter_px) and (nearest is None or line.right > lines[nearest].right):
                nearest = place
        if nearest is None:
            may_go_on.append(len(lines))
            lines.append(word)
        else:
            line = lines[nearest]
            lines[nearest] = Box(
                line.left, min(line.top, word.top), max(line.right, word.right), max(line.bottom, word.bottom)
            )
    return lines


def _goes_on(line: Box, word: Box, letter_px: float) -> bool:
    """Whether a word stands behind a line as its next one would."""
    small, large = sorted((line.height, word.height))
    if large > 2.2 * small and small > 0.5 * letter_px:
        return False  # a heading beside small print
    if min(line.bottom, word.bottom) - max(line.top, word.top) < 0.5 * small:
        return False
    size = min(large, 1.6 * small) if small > 0.6 * letter_px else large
    return word.left - line.right <= _WORD_GAP * max(0.8 * letter_px, size)


def rows_of(things: Iterable[Thing], box_of: Callable[[Thing], Box]) -> list[list[Thing]]:
    """Put what stands on one height together: rows from top to bottom, each from left to right."""
    rows: list[list[Thing]] = []
    for thing in sorted(things, key=lambda one: box_of(one).top + box_of(one).bottom):
        middle = (box_of(thing).top + box_of(thing).bottom) / 2
        if rows and any(box_of(other).top < middle < box_of(other).bottom for other in rows[-1]):
            rows[-1].append(thing)
        else:
            rows.append([thing])
    return [sorted(row, key=lambda one: box_of(one).left) for row in rows]
