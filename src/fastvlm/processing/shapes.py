"""Which plain shapes stand on a flat ground: drawn scenes, seen by their outlines and colours, without a model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastvlm.batches import BoolArray, Float32Array, UInt8Array
from fastvlm.processing.grounds import (
    Labels,
    are_grounds,
    colour_of_ground,
    find_grounds,
    frame_of,
    is_even_ground,
)
from fastvlm.processing.ink import EIGHT_NEIGHBOURS
from fastvlm.processing.shape_names import Shape, num_holes, shapes_of
from fastvlm.processing.text_lines import Box

__all__ = ["Drawing", "Shape", "find_drawing"]

_MIN_SIDE_PX, _MAX_SIDE_PX = 32, 1024
"""Smaller pictures show little; larger ones are no drawn scenes, or would take long."""

_STEP, _DIFFERENCE = 14, 20
"""Between neighbours on two sides of an edge, and between a shape and its ground, in the colour that differs most."""

_LEAST_FLAT, _REGION, _MOST_REGIONS, _MOST_SHAPES = 0.8, 5, 300, 60
"""Of a scene, how much is flat, in how many regions of some pixels at most, with how many shapes: others are photos, or
documents.
"""

_LEAST_AREA, _LEAST_SIDE, _LEAST_THICKNESS = 14, 5, 1.9
"""Of a shape in pixels, the last from its middle to its nearest edge: smaller ones are noise, thinner ones lines."""

_LINE, _EXTENT = 1.5, 0.6
"""From the middle of a line to its edge in pixels at most; and of what hangs together, the extent of its thick parts
below which its lines are no parts of a shape.
"""


_PART = 0.12
"""Of the largest flat part of what hangs together, from which on another one is a shape that touches it."""

_THICK, _THICK_AREA = 3.0, 25
"""From the middle of a smaller flat part to its nearest edge in pixels, from which on it is one, too, and its area."""

_LEAST_PLAIN, _MOST_OTHERS = 0.7, 16
"""Of what is found, how much has a plain outline, and how much is no shape at all at most."""

_AS_LARGE = 0.08
"""Of the side of a square, how much larger or smaller others are that it is built together with."""

_MOST_THIN, _FRAME, _FRAMED, _HOLLOW, _AROUND = 3, 0.04, 0.7, 0.15, 2
"""Pixels of what is a line or a speck; of the picture, how large the frame of a panel is at least, how much of three of
its sides is there, and how much of its inside it covers at most; and pixels around a shape that may be its edge.
"""


@dataclass(frozen=True)
class Drawing:
    """The shapes of a drawn scene, the part of the picture that they stand in, and what is behind them.

    frame: the picture without plain strips along its sides. ground: the name of its colour, None where it has several.
    """

    shapes: tuple[Shape, ...]
    frame: Box
    ground: str | None


def find_drawing(picture: UInt8Array) -> Drawing | None:
    """Find the plain shapes of a drawn scene, uint8 of H x W x 3; None for a picture that is no such scene.

    The ground may change along the picture, and hold panels. Shapes of one colour may touch in a point; those that
    cover each other are taken for one.
    """
    from scipy import ndimage

    if max(picture.shape[:2]) > _MAX_SIDE_PX or min(picture.shape[:2]) < _MIN_SIDE_PX:
        return None
    smooth = ndimage.median_filter(picture, size=(3, 3, 1)).astype(np.float32)
    is_flat = ~_edges(smooth)
    regions, _ = ndimage.label(is_flat)
    num_regions = (np.bincount(regions.ravel())[1:] >= _REGION).sum()
    if is_flat.mean() < _LEAST_FLAT or num_regions > _MOST_REGIONS:
        return None
    grounds = find_grounds(regions, smooth)
    frame = frame_of(regions, grounds, picture)
    if not are_grounds(regions, grounds, frame, picture):
        return None
    nearest = ndimage.distance_transform_edt(~np.isin(regions, grounds), return_distances=False, return_indices=True)
    behind = smooth[tuple(nearest)]
    found = _parts(np.abs(smooth - behind).max(axis=2) > _DIFFERENCE, regions)
    if found is None:
        return None
    parts, num_others = found
    shapes = [shapes_of(part, box, picture, behind) for part, box in parts]
    # What is thin, such as small letters, was smoothed away.
    differs = np.abs(picture - behind).max(axis=2) > 2 * _DIFFERENCE
    num_thin = _num_thin(differs, [box for _, box in parts], is_empty=not shapes)
    if num_thin is None or not _are_plain(shapes, num_others + num_thin):
        return None
    ground = colour_of_ground(regions, grounds, frame, picture)
    if not shapes and (ground is None or not is_even_ground(regions, grounds, smooth)):
        return None
    return Drawing(tuple(itertools.chain(*shapes)), frame, ground)


def _num_thin(differs: BoolArray, boxes: Sequence[Box], *, is_empty: bool) -> int | None:
    """How much stands out from the ground outside of some boxes, but for frames and specks.

    None where there is too much for a scene: where it is empty, anything.
    """
    from scipy import ndimage

    differs = differs.copy()
    for box in boxes:
        top, left = max(0, box.top - _AROUND), max(0, box.left - _AROUND)
        differs[top : box.bottom + _AROUND, left : box.right + _AROUND] = False
    labels, _ = ndimage.label(differs, EIGHT_NEIGHBOURS)
    number = 0
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        whole = labels[rows, columns] == index
        if is_empty and max(whole.shape) > _LEAST_SIDE:
            return None
        number += min(whole.shape) > _MOST_THIN and not _is_frame(whole, differs.size)
    return None if number > _MOST_OTHERS else number


def _is_frame(part: BoolArray, num_px: int) -> bool:
    """Whether what hangs together is the frame of a panel in a picture of so many pixels, and maybe what touches it."""
    sides = (part[:2].any(0), part[-2:].any(0), part[:, :2].any(1), part[:, -2:].any(1))
    # One side may be that of the picture, or behind a shape.
    is_around = sorted(side.mean() for side in sides)[1] >= _FRAMED
    return bool(part.size >= _FRAME * num_px and part.sum() < _HOLLOW * part.size and is_around)


def _are_plain(shapes: Sequence[Sequence[Shape]], num_others: int) -> bool:
    """Whether most of what was found are plain shapes, none of which is drawn around another one."""
    alone = list(itertools.chain(*shapes))
    sides = [shape.box.width for shape in alone if shape.is_plain and shape.name in ("square", "circle")]
    num_plain = sum(_is_plain(together, sides) for together in shapes)
    rings = [shape for shape in alone if shape.name == "ring"]
    are_apart = not any(_is_inside(shape.box, ring.box) for ring in rings for shape in alone if shape is not ring)
    return are_apart and num_plain >= _LEAST_PLAIN * (len(shapes) + num_others)


def _is_plain(together: Sequence[Shape], sides: Sequence[int]) -> bool:
    """Whether shapes that hang together are plain; a rectangle is a row of squares where others are as large."""
    if not together or all(shape.is_plain for shape in together):
        return bool(together)
    are_squares = len(together) > 1 and all(shape.name == "square" for shape in together)
    side = max(together[0].box.width, together[0].box.height)
    return are_squares and any(abs(side - other) <= _AS_LARGE * side for other in sides)


def _is_inside(box: Box, other: Box) -> bool:
    is_across = other.left <= box.left and box.right <= other.right
    return is_across and other.top <= box.top and box.bottom <= other.bottom


def _edges(smooth: Float32Array) -> BoolArray:
    edges = np.zeros(smooth.shape[:2], dtype=bool)
    across = np.abs(smooth[:, 1:] - smooth[:, :-1]).max(axis=2) > _STEP
    down = np.abs(smooth[1:] - smooth[:-1]).max(axis=2) > _STEP
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _parts(differs: BoolArray, regions: Labels) -> tuple[list[tuple[BoolArray, Box]], int] | None:
    """What hangs together, with its box, a shape that touches another by itself, and how much else there is.

    Lines, frames and specks do not count. None for a picture with too much for a scene.
    """
    from scipy import ndimage

    found: list[tuple[BoolArray, Box]] = []
    num_others = 0
    labels, _ = ndimage.label(differs, EIGHT_NEIGHBOURS)
    boxes = [
        (number, Box(columns.start, rows.start, columns.stop, rows.stop))
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1)
    ]
    thick_boxes = [(number, box) for number, box in boxes if min(box.width, box.height) > _MOST_THIN]
    if len(thick_boxes) > _MOST_SHAPES:
        return None
    for number, box in thick_boxes:
        whole = labels[box.top : box.bottom, box.left : box.right] == number
        parts = [
            (part, place)
            for thick, place in _without_lines(whole, box)
            if min(thick.shape) >= _LEAST_SIDE and thick.sum() >= max(_LEAST_AREA, 0.1 * thick.size)
            for part in _apart(thick, regions[place.top : place.bottom, place.left : place.right])
            if ndimage.distance_transform_edt(np.pad(part, 1)).max() >= _LEAST_THICKNESS
        ]
        found += parts
        num_others += not parts and not _is_frame(whole, differs.size)
        if len(found) > _MOST_SHAPES or num_others > _MOST_OTHERS:
            return None
    return found, num_others


def _without_lines(whole: BoolArray, box: Box) -> list[tuple[BoolArray, Box]]:
    """The thick parts of what hangs together, where thin lines are most of its extent: shapes that touch a line."""
    from scipy import ndimage

    is_thick = ndimage.distance_transform_edt(np.pad(whole, 1))[1:-1, 1:-1] > _LINE
    thick = ndimage.binary_dilation(is_thick, EIGHT_NEIGHBOURS) & whole
    labels, _ = ndimage.label(thick, EIGHT_NEIGHBOURS)
    places = ndimage.find_objects(labels)
    extent = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in places)
    if not 0 < extent < _EXTENT * whole.size:
        return [(whole, box)]
    return [
        (
            labels[rows, columns] == number,
            Box(columns.start, rows.start, columns.stop, rows.stop).moved(box.left, box.top),
        )
        for number, (rows, columns) in enumerate(places, start=1)
    ]


def _apart(whole: BoolArray, regions: Labels) -> list[BoolArray]:
    """The shapes that touch each other: each flat region of some size, with the pixels that are nearest to it."""
    from scipy import ndimage

    numbers, amounts = np.unique(regions[whole & (regions > 0)], return_counts=True)
    if not len(numbers):
        return [whole]
    least = max(_LEAST_AREA / 2, _PART * amounts.max())
    are_shapes = [
        amount >= least or (amount >= _THICK_AREA and _is_thick(regions == number))
        for number, amount in zip(numbers, amounts, strict=True)
    ]
    numbers = numbers[are_shapes]
    seeds = np.where(whole & np.isin(regions, numbers), regions, 0)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    owners = seeds[tuple(nearest)]
    parts = [whole & (owners == number) for number in numbers]
    # A thin ring is flat in some places alone, all around its hole.
    is_one_ring = num_holes(whole) == 1 and not any(num_holes(part) for part in parts)
    return [whole] if is_one_ring else parts


def _is_thick(part: BoolArray) -> bool:
    """Whether a flat part of a shape is no outline and no strip of a shadow."""
    from scipy import ndimage

    return bool(ndimage.distance_transform_edt(np.pad(part, 1)).max() >= _THICK)
