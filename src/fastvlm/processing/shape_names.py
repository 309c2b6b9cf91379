"""What a shape on a flat ground is: its name by its outline, and that of its colour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastvlm.batches import BoolArray, Float32Array, UInt8Array
from fastvlm.processing.colour_names import colour_of
from fastvlm.processing.ink import EIGHT_NEIGHBOURS
from fastvlm.processing.text_lines import Box

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "diamond", "ring")
"""What is told apart."""

_SMALL, _CLOSER = 28, 4
"""Sides of shapes in pixels below which more is seen by how much of its pixels they cover, and how much larger then."""

_LONG, _MOST_IN_A_ROW = 1.75, 8
"""From which ratio of its sides on a part is several shapes in a row, or a bar where it is so much longer."""

_RECTANGLE, _REACH = 0.93, 0.85
"""Of its box, how much a rectangle fills at least, and how much of the sides of its place a shape in a row reaches."""

_NUM_RAYS = 72
"""Directions in which an outline is measured."""

_TURNS = {"circle": (5, 0.06), "ring": (5, 0.06), "square": (4, 0.1), "cross": (4, 0.1), "star": (5, 0.15)}
"""Into how many parts a full turn goes, each of which leaves the outline as it is, but for so much of its size."""

_MIRRORED = 0.08
"""Of the size of other shapes, how much their halves differ at most."""

_HOLE = 0.1
"""Of a shape with its hole, how large the hole of a ring is at least."""


@dataclass(frozen=True)
class Shape:
    """A shape, one of `SHAPES`, the name of its colour, and where it stands.

    is_plain: whether its outline is as even as that of such a shape; those of letters and of shapes that are cut off or
    touch another one are not.
    """

    name: str
    colour: str
    box: Box
    is_plain: bool = True


def num_holes(part: BoolArray) -> int:
    """How many holes a shape has that are as large as those of a ring."""
    return len(_holes(part))


def _holes(part: BoolArray) -> list[tuple[slice, slice]]:
    """Where the holes of a shape are that are as large as those of a ring."""
    from scipy import ndimage

    filled = ndimage.binary_fill_holes(part)
    holes, _ = ndimage.label(filled & ~part)
    areas = np.bincount(holes.ravel())[1:]
    places = ndimage.find_objects(holes)
    return [place for place, area in zip(places, areas, strict=True) if area > _HOLE * filled.sum() / 2]


def _places_of_rings(part: BoolArray, box: Box) -> list[Box]:
    """The place of each ring of those that hang together: a hole, and as much around it as the rings are thick."""
    from scipy import ndimage

    thickness = round(2 * float(ndimage.distance_transform_edt(np.pad(part, 1)).max()))
    return [
        Box(
            max(0, columns.start - thickness),
            max(0, rows.start - thickness),
            min(part.shape[1], columns.stop + thickness),
            min(part.shape[0], rows.stop + thickness),
        ).moved(box.left, box.top)
        for rows, columns in _holes(part)
    ]


def shapes_of(part: BoolArray, box: Box, picture: UInt8Array, behind: Float32Array) -> list[Shape]:
    """Tell what a part of a picture is: one shape, as many rings as it has holes, or a row of squares and circles.

    part: which pixels of a box are meant. behind: what the picture would be without shapes.
    """
    from scipy import ndimage

    inner = ndimage.binary_erosion(part)
    pixels = picture[box.top : box.bottom, box.left : box.right][inner if inner.sum() > 8 else part]
    colour = np.median(pixels, axis=0)
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    place = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1).moved(box.left, box.top)
    filled = ndimage.binary_fill_holes(part)
    name = colour_of(colour.tolist())
    if (filled & ~part).sum() > _HOLE * filled.sum():
        places = _places_of_rings(part, box)
        return [Shape("ring", name, one, len(places) > 1 or _is_even(filled, "ring")) for one in places or [place]]
    in_a_row = _in_a_row(filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], name, place)
    if in_a_row is not None:
        return in_a_row
    is_small = min(place.width, place.height) < _SMALL
    outline = _seen_closely(part, box, picture, behind, colour) if is_small else None
    outline = filled if outline is None else outline
    shape = _name_of(outline)
    return [Shape(shape, name, place, _is_even(outline, shape))]


def _in_a_row(filled: BoolArray, colour: str, place: Box) -> list[Shape] | None:
    """The squares and circles of one size and colour that stand on or beside each other; None of something else."""
    long, short = max(filled.shape), min(filled.shape)
    if long < _LONG * short:
        return None
    number = round(long / short)
    is_bar = filled.sum() >= _RECTANGLE * filled.size
    if number > _MOST_IN_A_ROW:
        return [] if is_bar else None
    goes_down = filled.shape[0] == long
    edges = [round(index * long / number) for index in range(number + 1)]
    found = []
    for start, end in pairwise(edges):
        piece = filled[start:end] if goes_down else filled[:, start:end]
        box = Box(0, start, short, end) if goes_down else Box(start, 0, end, short)
        if min(piece.any(0).mean(), piece.any(1).mean()) < _REACH:
            return None
        name = "square" if is_bar or piece.mean() >= _RECTANGLE else _name_of(piece)
        if name not in ("square", "circle"):
            return None
        found.append(Shape(name, colour, box.moved(place.left, place.top)))
    return found


def _seen_closely(
    part: BoolArray, box: Box, picture: UInt8Array, behind: Float32Array, colour: npt.NDArray[np.float64]
) -> BoolArray | None:
    """A small shape, larger: how much of each pixel it covers tells its outline between pixels."""
    from scipy import ndimage

    top, left = max(0, box.top - 2), max(0, box.left - 2)
    around = np.s_[top : box.bottom + 2, left : box.right + 2]
    ground = behind[around]
    mask = np.zeros(ground.shape[:2], dtype=bool)
    mask[box.top - top :, box.left - left :][: part.shape[0], : part.shape[1]] = part
    step = colour - ground
    covered = ((picture[around] - ground) * step).sum(axis=2) / np.maximum((step**2).sum(axis=2), 1.0)
    covered = np.where(ndimage.binary_dilation(mask, EIGHT_NEIGHBOURS), covered, 0.0)
    labels, _ = ndimage.label(ndimage.zoom(covered, _CLOSER, order=1) > 0.5)
    areas = np.bincount(labels.ravel())[1:]
    if not len(areas):
        return None
    found = labels == areas.argmax() + 1
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    return np.asarray(ndimage.binary_fill_holes(found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


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


def _is_even(filled: BoolArray, name: str) -> bool:
    """Whether an outline is as symmetric as a shape of this name: when turned in part, or in some mirror."""
    reaches = _reaches(filled)
    if name in _TURNS:
        num_turns, most = _TURNS[name]
        places = np.arange(_NUM_RAYS) + _NUM_RAYS / num_turns
        others = np.interp(places, np.arange(2 * _NUM_RAYS), np.tile(reaches, 2))
        return bool(np.abs(others - reaches).mean() <= most * reaches.mean())
    steps = np.arange(_NUM_RAYS)
    mirrored = min(np.abs(reaches[(axis + steps) % _NUM_RAYS] - reaches[axis - steps]).mean() for axis in steps)
    return bool(mirrored <= _MIRRORED * reaches.mean())


def _reaches(filled: BoolArray) -> npt.NDArray[np.float64]:
    """How far an outline reaches from the middle of a shape in all directions."""
    if min(filled.shape) < _SMALL:
        filled = np.kron(filled, np.ones((3, 3), dtype=bool))
    rows, columns = np.nonzero(filled)
    down, across = rows - rows.mean(), columns - columns.mean()
    rays = (np.arctan2(down, across) % (2 * np.pi) / (2 * np.pi) * _NUM_RAYS).astype(int) % _NUM_RAYS
    reaches = np.zeros(_NUM_RAYS)
    np.maximum.at(reaches, rays, np.hypot(down, across) + 0.5)
    return reaches


def _least_rectangle(outline: npt.NDArray[np.float64]) -> float:
    """The area of the smallest rectangle around an outline, however it is turned, in steps of five degrees."""
    angles = np.radians(np.arange(0, 90, 5))
    turns = np.array([[[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] for angle in angles])
    return float(min(np.prod(np.ptp(outline @ turn, axis=0) + 1) for turn in turns))
