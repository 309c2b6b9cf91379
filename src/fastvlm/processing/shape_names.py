"""What a shape on a flat ground is: its name by its outline, and that of its colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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

_LONG, _MOST_IN_A_ROW, _UNEVEN = 1.75, 5, 0.08
"""From which ratio of its sides on a part is several shapes in a row, how many at most, and how near to a whole number
that ratio is: others are bars.
"""

_LEAST_FULL, _WITHIN = 0.65, 0.01
"""Of its box, how much the hole of a ring fills, for a circle fills 0.785; and of another shape, what holes it has."""

_ROUND_RATIO, _OVERLAP = 1.2, 1.12
"""Between the sides of a ring, and between those of rings in a row and their row: those of an 8 are no rings."""

_RECTANGLE, _REACH = 0.93, 0.85
"""Of its box, how much a rectangle fills at least, and how much of the sides of its place a shape in a row reaches."""

_NUM_RAYS = 72
"""Directions in which an outline is measured."""

_TURNS = {"circle": (5, 0.045), "ring": (5, 0.06), "square": (4, 0.1), "cross": (4, 0.1), "star": (5, 0.15)}
"""Into how many parts a full turn goes, each of which leaves the outline as it is, but for so much of its size."""

_LARGE, _ROUND = 40, 0.92
"""Pixels from which on a circle is told from a polygon of many sides, and how round it is then."""

_LEAST_ROUND, _MOST_SOLID_HEART, _MOST_FULL_DIAMOND, _MOST_FULL_TRIANGLE = 0.86, 0.955, 2.45, 0.62
"""Of circles, as `_Outline` measures it, for a hexagon has 0.83; of hearts, that have a notch; of diamonds, by how far
they reach along and across, for an ellipse has 3.1; and of triangles, half of whose rectangle is empty.
"""

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


def _are_round(holes: Sequence[tuple[slice, slice]], num_px: int) -> bool:
    """Whether a ring has one hole, which is a circle."""
    if len(holes) != 1:
        return False
    height, width = (side.stop - side.start for side in holes[0])
    return bool(1 / _ROUND_RATIO <= width / height <= _ROUND_RATIO and num_px >= _LEAST_FULL * width * height)


def _is_as_high_as_wide(box: Box) -> bool:
    return 1 / _ROUND_RATIO <= box.width / box.height <= _ROUND_RATIO


def _places_of_rings(part: BoolArray, box: Box) -> list[Box]:
    """The place of each ring of those that hang together: a hole, and as much around it as the rings are thick."""
    height, width = part.shape
    holes = _holes(part)
    gaps = ((rows.start, height - rows.stop, columns.start, width - columns.stop) for rows, columns in holes)
    thickness = min((min(sides) for sides in gaps), default=0)
    return [
        Box(columns.start - thickness, rows.start - thickness, columns.stop + thickness, rows.stop + thickness).moved(
            box.left, box.top
        )
        for rows, columns in holes
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
    num_within = (filled & ~part).sum()
    if num_within > _HOLE * filled.sum():
        places = _places_of_rings(part, box)
        if len(places) > 1:
            are_beside = sum(max(one.width, one.height) for one in places) <= _OVERLAP * max(place.width, place.height)
            return [Shape("ring", name, one, are_beside and _is_as_high_as_wide(one)) for one in places]
        return [Shape("ring", name, place, _Outline(filled).is_even("ring") and _are_round(_holes(part), num_within))]
    in_a_row = _in_a_row(filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], name, place)
    if in_a_row is not None:
        return in_a_row
    is_small = min(place.width, place.height) < _SMALL
    outline = _seen_closely(part, box, picture, behind, colour) if is_small else None
    measured = _Outline(filled if outline is None else outline)
    shape = measured.name()
    # What stands within a shape is not told.
    is_full = bool(num_within <= _WITHIN * filled.sum())
    return [Shape(shape, name, place, is_full and measured.is_even(shape))]


def _in_a_row(filled: BoolArray, colour: str, place: Box) -> list[Shape] | None:
    """The squares and circles of one size and colour that stand on or beside each other; None of something else."""
    long, short = max(filled.shape), min(filled.shape)
    if long < _LONG * short:
        return None
    number = round(long / short)
    is_bar = filled.sum() >= _RECTANGLE * filled.size
    if number > _MOST_IN_A_ROW or abs(long / short - number) > _UNEVEN * number:
        return [] if is_bar else None
    goes_down = filled.shape[0] == long
    edges = [round(index * long / number) for index in range(number + 1)]
    found = []
    for start, end in pairwise(edges):
        piece = filled[start:end] if goes_down else filled[:, start:end]
        box = Box(0, start, short, end) if goes_down else Box(start, 0, end, short)
        if min(piece.any(0).mean(), piece.any(1).mean()) < _REACH:
            return None
        name = "square" if is_bar or piece.mean() >= _RECTANGLE else _Outline(piece).name()
        if name not in ("square", "circle"):
            return None
        # A full rectangle may be one.
        found.append(Shape(name, colour, box.moved(place.left, place.top), is_plain=not is_bar))
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


class _Outline:
    """A shape without holes, measured."""

    def __init__(self, filled: BoolArray) -> None:
        from scipy.spatial import ConvexHull

        rows, columns = np.nonzero(filled)
        hull = ConvexHull(np.stack([columns, rows], 1))
        self._filled = filled[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        self._corners = np.stack([columns, rows], 1)[hull.vertices].astype(float)
        # Pixels of the hull, by those in it and on its sides (Pick's theorem): of small shapes many are on a side.
        steps = np.abs(self._corners - np.roll(self._corners, 1, axis=0)).max(axis=1)
        self._hull_px = hull.volume + steps.sum() / 2 + 1
        self._rays = self._corners - (columns.mean(), rows.mean())
        self.num_px = len(rows)
        self.solidity = len(rows) / self._hull_px

    @cached_property
    def symmetry(self) -> float:
        """How much of it is itself upside down."""
        turned = self._filled[::-1, ::-1]
        return float((self._filled & turned).sum() / (self._filled | turned).sum())

    @cached_property
    def roundness(self) -> float:
        """How much of the smallest circle around its middle its hull fills."""
        return float(self._hull_px / (np.pi * (np.hypot(*self._rays.T).max() + 0.5) ** 2))

    @cached_property
    def rectangularity(self) -> float:
        """How much of the smallest rectangle around it, turned in steps of five degrees, its hull fills."""
        angles = np.radians(np.arange(0, 90, 5))
        turns = np.array([[[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] for angle in angles])
        return float(self._hull_px / min(np.prod(np.ptp(self._corners @ turn, axis=0) + 1) for turn in turns))

    @cached_property
    def stands_on_a_corner(self) -> bool:
        """Whether its far corners are above, below and beside its middle."""
        lengths = np.hypot(*self._rays.T)
        far = self._rays[lengths > 0.88 * lengths.max()]
        angles = np.degrees(np.arctan2(far[:, 1], far[:, 0])) % 90
        return bool(np.median(np.minimum(angles, 90 - angles)) <= 24)

    @cached_property
    def reaches(self) -> npt.NDArray[np.float64]:
        """How far it reaches from its middle in all directions, in pixels."""
        larger = 3 if min(self._filled.shape) < _SMALL else 1
        rows, columns = np.nonzero(np.kron(self._filled, np.ones((larger, larger), dtype=bool)))
        down, across = rows - rows.mean(), columns - columns.mean()
        rays = (np.arctan2(down, across) % (2 * np.pi) / (2 * np.pi) * _NUM_RAYS).astype(int) % _NUM_RAYS
        reaches = np.zeros(_NUM_RAYS)
        np.maximum.at(reaches, rays, np.hypot(down, across) + 0.5)
        return reaches / larger

    def name(self) -> str:
        """The name of the shape that it is, or is nearest to."""
        if self.solidity < 0.87:
            return "cross" if self.symmetry > 0.8 else "star" if self.solidity < 0.76 else "heart"
        if self.symmetry < 0.8:
            return "triangle" if self.rectangularity < 0.66 else "heart"
        if self.roundness > 0.82:
            return "circle"
        # A square that stands on a corner is a diamond.
        return "diamond" if self.stands_on_a_corner else "square"

    def is_even(self, name: str) -> bool:
        """Whether it is as symmetric as a shape of this name, when turned in part or in some mirror, and as full."""
        least_round = _LEAST_ROUND if min(self._filled.shape) < _LARGE else _ROUND
        if name in ("circle", "ring") and self.roundness < least_round:
            return False
        if name == "heart" and self.solidity > _MOST_SOLID_HEART:
            return False
        if name == "diamond" and self._is_bulgy():
            return False
        if name == "triangle" and self.rectangularity > _MOST_FULL_TRIANGLE:
            return False
        return self._is_turned(*_TURNS[name]) if name in _TURNS else self._is_mirrored()

    def _is_bulgy(self) -> bool:
        """Whether it is fuller than a diamond that reaches as far: an ellipse is."""
        reaches = (self.reaches + np.roll(self.reaches, _NUM_RAYS // 2)) / 2
        far = int(reaches.argmax())
        return bool(self.num_px > _MOST_FULL_DIAMOND * reaches[far] * reaches[(far + _NUM_RAYS // 4) % _NUM_RAYS])

    def _is_turned(self, num_turns: int, most: float) -> bool:
        places = np.arange(_NUM_RAYS) + _NUM_RAYS / num_turns
        others = np.interp(places, np.arange(2 * _NUM_RAYS), np.tile(self.reaches, 2))
        return bool(np.abs(others - self.reaches).mean() <= most * self.reaches.mean())

    def _is_mirrored(self) -> bool:
        steps = np.arange(_NUM_RAYS)
        differences = [
            np.abs(self.reaches[(axis + steps) % _NUM_RAYS] - self.reaches[axis - steps]).mean() for axis in steps
        ]
        return bool(min(differences) <= _MIRRORED * self.reaches.mean())
