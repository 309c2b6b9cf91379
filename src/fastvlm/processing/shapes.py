"""Which plain shapes stand on a flat ground: drawn scenes, seen by their outlines and colours, without a model."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastvlm.batches import BoolArray, Float32Array, UInt8Array
from fastvlm.processing.ink import EIGHT_NEIGHBOURS
from fastvlm.processing.text_lines import Box

Labels = npt.NDArray[np.int32]

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "diamond", "ring")
"""What is told apart."""

_MAX_SIDE_PX = 1024
"""Larger pictures are no drawn scenes, or would take long."""

_STEP, _DIFFERENCE = 14, 20
"""Between neighbours on two sides of an edge, and between a shape and its ground, in the colour that differs most."""

_LEAST_FLAT, _MOST_REGIONS, _MOST_SHAPES = 0.8, 300, 60
"""Of a scene, how much is flat, in how many regions at most, with how many shapes: others are photos, or documents."""

_LEAST_AREA, _LEAST_SIDE, _LEAST_THICKNESS = 14, 5, 1.9
"""Of a shape in pixels, the last from its middle to its nearest edge: smaller ones are noise, thinner ones lines."""

_PANEL, _FRAMED, _FULL, _SQUARE = 0.06, 0.72, 0.7, (0.82, 1.22)
"""Of the picture, how large a panel is at least; how much of its frame it reaches, how much of its box it fills; and
between which ratios of its sides it may be a square, which is a panel only where it holds something.
"""

_PART = 0.12
"""Of the largest flat part of what hangs together, from which on another one is a shape that touches it."""

_MOST_OTHERS = 8
"""Specks and lines on a scene; a page has letters."""

_RECTANGLE = 0.93
"""Of its box, how much a rectangle fills; it is squares that stand on or beside each other."""

_HOLE = 0.1
"""Of a shape with its hole, how large the hole of a ring is at least."""


@dataclass(frozen=True)
class Shape:
    """A shape, one of `SHAPES`, the name of its colour, and where it stands."""

    name: str
    colour: str
    box: Box


def find_shapes(picture: UInt8Array) -> list[Shape] | None:
    """Find the plain shapes of a drawn scene, uint8 of H x W x 3; None for a picture that is no such scene.

    The ground may change along the picture, and hold panels. Shapes of one colour may touch in a point; those that
    cover each other are taken for one.
    """
    from scipy import ndimage

    if max(picture.shape[:2]) > _MAX_SIDE_PX or min(picture.shape[:2]) < 2 * _LEAST_SIDE:
        return None
    smooth = ndimage.median_filter(picture, size=(3, 3, 1)).astype(np.float32)
    is_flat = ~_edges(smooth)
    regions, num_regions = ndimage.label(is_flat)
    if is_flat.mean() < _LEAST_FLAT or num_regions > _MOST_REGIONS:
        return None
    ground = np.isin(regions, _grounds(regions))
    nearest = ndimage.distance_transform_edt(~ground, return_distances=False, return_indices=True)
    differs = np.abs(smooth - smooth[tuple(nearest)]).max(axis=2) > _DIFFERENCE
    parts, num_others = _parts(differs, regions)
    shapes = [shape for part, box in parts for shape in _shapes_of(part, box, picture)]
    return shapes if len(shapes) <= _MOST_SHAPES and num_others <= _MOST_OTHERS else None


def colour_of(rgb: Sequence[float]) -> str:
    """What a flat colour of red, green and blue, from 0 to 255, is called."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in rgb))
    hue *= 360
    if value < 0.16:
        return "black"
    if saturation < 0.1:
        return "white" if value > 0.9 else "grey"
    if 318 <= hue < 353 and saturation < 0.75 and value > 0.85:
        return "pink"
    if hue < 45 and hue >= 13:
        return "brown" if value < 0.68 else "orange"
    if 45 <= hue < 68:
        return "yellow" if value > 0.6 else "brown"
    names = ((13, "red"), (178, "green"), (254, "blue"), (320, "purple"), (361, "red"))
    return next(name for most, name in names if hue < most)


def _edges(smooth: Float32Array) -> BoolArray:
    edges = np.zeros(smooth.shape[:2], dtype=bool)
    across = np.abs(smooth[:, 1:] - smooth[:, :-1]).max(axis=2) > _STEP
    down = np.abs(smooth[1:] - smooth[:-1]).max(axis=2) > _STEP
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _grounds(regions: Labels) -> list[int]:
    """The largest flat region, those that go from side to side, and panels."""
    from scipy import ndimage

    height, width = regions.shape
    places = ndimage.find_objects(regions)
    areas = np.bincount(regions.ravel(), minlength=len(places) + 1)
    areas[0] = 0
    found = [int(areas.argmax())]
    for number, (rows, columns) in enumerate(places, start=1):
        if areas[number] < _LEAST_AREA or number == found[0]:
            continue
        goes_across = columns.start <= 2 and columns.stop >= width - 2
        goes_down = rows.start <= 2 and rows.stop >= height - 2
        is_large = areas[number] >= _PANEL * height * width
        if goes_across or goes_down or (is_large and _is_panel(regions[rows, columns], number)):
            found.append(number)
    return found


def _is_panel(part: Labels, number: int) -> bool:
    """Whether a flat region is a rectangle that is longer than a square, or one that holds something."""
    from scipy import ndimage

    region = part == number
    height, width = region.shape
    frame = np.concatenate([region[:2].any(0), region[-2:].any(0), region[:, :2].any(1), region[:, -2:].any(1)])
    filled = ndimage.binary_fill_holes(region)
    least, most = _SQUARE
    holds = filled.sum() >= 0.93 * height * width and (filled & ~region).sum() > 0.02 * filled.sum()
    is_long = not least < width / height < most
    return bool(frame.mean() >= _FRAMED and filled.sum() > _FULL * height * width and (is_long or holds))


def _parts(differs: BoolArray, regions: Labels) -> tuple[list[tuple[BoolArray, Box]], int]:
    """What hangs together, with its box, a shape that touches another by itself; and how many specks and lines."""
    from scipy import ndimage

    found: list[tuple[BoolArray, Box]] = []
    num_others = 0
    labels, _ = ndimage.label(differs, EIGHT_NEIGHBOURS)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        whole = labels[rows, columns] == number
        is_large = min(whole.shape) >= _LEAST_SIDE and whole.sum() >= max(_LEAST_AREA, 0.1 * whole.size)
        box = Box(columns.start, rows.start, columns.stop, rows.stop)
        parts = [
            (part, box)
            for part in (_apart(whole, regions[rows, columns]) if is_large else [])
            if ndimage.distance_transform_edt(np.pad(part, 1)).max() >= _LEAST_THICKNESS
        ]
        found += parts
        num_others += not parts
    return found, num_others


def _apart(whole: BoolArray, regions: Labels) -> list[BoolArray]:
    """The shapes that touch each other: each flat region of some size, with the pixels that are nearest to it."""
    from scipy import ndimage

    numbers, amounts = np.unique(regions[whole & (regions > 0)], return_counts=True)
    if not len(numbers):
        return [whole]
    numbers = numbers[amounts >= max(_LEAST_AREA / 2, _PART * amounts.max())]
    seeds = np.where(whole & np.isin(regions, numbers), regions, 0)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    owners = seeds[tuple(nearest)]
    parts = [whole & (owners == number) for number in numbers]
    # A thin ring is flat in some places alone, all around its hole.
    is_one_ring = _num_holes(whole) == 1 and not any(_num_holes(part) for part in parts)
    return [whole] if is_one_ring else parts


def _num_holes(part: BoolArray) -> int:
    """How many holes a shape has that are as large as those of a ring."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(part)
    holes, _ = ndimage.label(filled & ~part)
    return int((np.bincount(holes.ravel())[1:] > _HOLE * filled.sum() / 2).sum())


def _shapes_of(part: BoolArray, box: Box, picture: UInt8Array) -> list[Shape]:
    """What a part is: one shape, as many rings as it has holes, or as many squares as a rectangle is long."""
    from scipy import ndimage

    inner = ndimage.binary_erosion(part)
    pixels = picture[box.top : box.bottom, box.left : box.right][inner if inner.sum() > 8 else part]
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    place = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1).moved(box.left, box.top)
    filled = ndimage.binary_fill_holes(part)
    is_ring = (filled & ~part).sum() > _HOLE * filled.sum()
    shape = Shape("ring" if is_ring else _name_of(filled), colour_of(np.median(pixels, axis=0).tolist()), place)
    if is_ring:
        return [shape] * max(1, _num_holes(part))
    num_squares = round(max(place.width, place.height) / min(place.width, place.height))
    if num_squares > 1 and filled.sum() >= _RECTANGLE * place.width * place.height:
        return [replace(shape, name="square")] * num_squares
    return [shape]


def _name_of(filled: BoolArray) -> str:
    """The name of a shape without holes, by how much of its hull it fills and how much it is itself upside down."""
    from scipy.spatial import ConvexHull

    rows, columns = np.nonzero(filled)
    hull = ConvexHull(np.stack([columns, rows], 1))
    outline = np.stack([columns, rows], 1)[hull.vertices].astype(float)
    # Pixels of the hull, by those inside of it and on its sides (Pick's theorem): of small shapes many are on a side.
    steps = np.abs(outline - np.roll(outline, 1, axis=0)).max(axis=1)
    hull_px = hull.volume + steps.sum() / 2 + 1
    turned = filled[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    symmetry = (turned & turned[::-1, ::-1]).sum() / (turned | turned[::-1, ::-1]).sum()
    solidity = len(rows) / hull_px
    if solidity < 0.87:
        return "cross" if symmetry > 0.8 else "star" if solidity < 0.76 else "heart"
    if symmetry < 0.8:
        return "triangle" if hull_px / _least_rectangle(outline) < 0.66 else "heart"
    rays = outline - (columns.mean(), rows.mean())
    lengths = np.sqrt((rays**2).sum(axis=1))
    if hull_px / (np.pi * (lengths.max() + 0.5) ** 2) > 0.82:
        return "circle"
    far = rays[lengths > 0.88 * lengths.max()]
    angles = np.degrees(np.arctan2(far[:, 1], far[:, 0])) % 90
    # A square that stands on a corner is a diamond.
    return "square" if np.median(np.minimum(angles, 90 - angles)) > 24 else "diamond"


def _least_rectangle(outline: npt.NDArray[np.float64]) -> float:
    """The area of the smallest rectangle around an outline, however it is turned, in steps of five degrees."""
    angles = np.radians(np.arange(0, 90, 5))
    turns = np.array([[[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] for angle in angles])
    return float(min(np.prod(np.ptp(outline @ turn, axis=0) + 1) for turn in turns))
