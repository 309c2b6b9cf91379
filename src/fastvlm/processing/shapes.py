"""Which plain shapes stand on a flat ground: drawn scenes, seen by their outlines and colours, without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastvlm.batches import BoolArray, Float32Array, UInt8Array
from fastvlm.processing.grounds import Labels, colour_of_ground, find_grounds, frame_of
from fastvlm.processing.ink import EIGHT_NEIGHBOURS
from fastvlm.processing.shape_names import Shape, num_holes, shapes_of
from fastvlm.processing.text_lines import Box

__all__ = ["Drawing", "Shape", "find_drawing"]

_MAX_SIDE_PX = 1024
"""Larger pictures are no drawn scenes, or would take long."""

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

_THICK = 3.0
"""From the middle of a smaller flat part to its nearest edge in pixels, from which on it is one, too."""

_LEAST_PLAIN, _MOST_OTHERS = 0.7, 16
"""Of what is found, how much has a plain outline; and how many specks and parts of lines there are."""


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

    if max(picture.shape[:2]) > _MAX_SIDE_PX or min(picture.shape[:2]) < 2 * _LEAST_SIDE:
        return None
    smooth = ndimage.median_filter(picture, size=(3, 3, 1)).astype(np.float32)
    is_flat = ~_edges(smooth)
    regions, _ = ndimage.label(is_flat)
    num_regions = (np.bincount(regions.ravel())[1:] >= _REGION).sum()
    if is_flat.mean() < _LEAST_FLAT or num_regions > _MOST_REGIONS:
        return None
    grounds = find_grounds(regions, smooth)
    ground = np.isin(regions, grounds)
    nearest = ndimage.distance_transform_edt(~ground, return_distances=False, return_indices=True)
    behind = smooth[tuple(nearest)]
    differs = np.abs(smooth - behind).max(axis=2) > _DIFFERENCE
    parts, num_others = _parts(differs, regions)
    if len(parts) > _MOST_SHAPES or num_others > _MOST_OTHERS:
        return None
    found = [shapes_of(part, box, picture, behind) for part, box in parts]
    num_plain = sum(all(shape.is_plain for shape in shapes) for shapes in found)
    if num_plain < _LEAST_PLAIN * len(found) or (num_others and not found):
        return None
    shapes = [shape for together in found for shape in together]
    frame = frame_of(regions, grounds, picture)
    return Drawing(tuple(shapes), frame, colour_of_ground(regions, grounds, frame, picture))


def _edges(smooth: Float32Array) -> BoolArray:
    edges = np.zeros(smooth.shape[:2], dtype=bool)
    across = np.abs(smooth[:, 1:] - smooth[:, :-1]).max(axis=2) > _STEP
    down = np.abs(smooth[1:] - smooth[:-1]).max(axis=2) > _STEP
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _parts(differs: BoolArray, regions: Labels) -> tuple[list[tuple[BoolArray, Box]], int]:
    """What hangs together, with its box, a shape that touches another by itself; and how many specks and lines."""
    from scipy import ndimage

    found: list[tuple[BoolArray, Box]] = []
    num_others = 0
    labels, _ = ndimage.label(differs, EIGHT_NEIGHBOURS)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = Box(columns.start, rows.start, columns.stop, rows.stop)
        parts = [
            (part, place)
            for whole, place in _without_lines(labels[rows, columns] == number, box)
            if min(whole.shape) >= _LEAST_SIDE and whole.sum() >= max(_LEAST_AREA, 0.1 * whole.size)
            for part in _apart(whole, regions[place.top : place.bottom, place.left : place.right])
            if ndimage.distance_transform_edt(np.pad(part, 1)).max() >= _LEAST_THICKNESS
        ]
        found += parts
        num_others += not parts
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
    are_large = amounts >= max(_LEAST_AREA / 2, _PART * amounts.max())
    are_shapes = [large or _is_thick(regions == number) for number, large in zip(numbers, are_large, strict=True)]
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
