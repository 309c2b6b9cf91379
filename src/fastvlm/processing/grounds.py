"""What is behind the shapes of a drawn scene: the flat ground, panels on it, and strips beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.processing.colour_names import colour_of
from fastvlm.processing.text_lines import Box

Labels = npt.NDArray[np.int32]
"""Numbers of the flat regions of a picture, H x W, 0 for none."""

_LEAST_GROUND = 14
"""Pixels of a region that goes from side to side."""

_PANEL, _FRAMED, _FULL, _SQUARE = 0.06, 0.72, 0.7, (0.82, 1.22)
"""Of the picture, how large a panel is at least; how much of its frame it reaches, how much of its box it fills; and
between which ratios of its sides it may be a square, which is a panel only where it holds something.
"""

_ALIKE, _EMPTY = 2, 0.93
"""Pixels and levels between which panels are of one size and colour; and of the area of an empty panel, what is left of
one that holds something.
"""

_EDGE, _BESIDE, _GREYS = 1, 0.4, frozenset(("white", "grey", "black"))
"""Pixels from the side of a picture, how much of which is something else than ground at most; and colours of which
ground may have several.
"""

_EVEN = 2.5
"""Standard deviation of the levels of an even ground, with what noise is left of it."""

_MOST_PADDING, _NOISE, _PLAIN = 0.3, 6.0, 2
"""Of the picture, how wide a plain strip along one of its sides is at most that was put there to fill it; the standard
deviation of its levels at most; and how far apart those of two strips of one colour are.
"""


def find_grounds(regions: Labels, smooth: Float32Array) -> list[int]:
    """The largest flat region, those that go from side to side, and panels."""
    from scipy import ndimage

    height, width = regions.shape
    places = ndimage.find_objects(regions)
    areas = np.bincount(regions.ravel(), minlength=len(places) + 1)
    areas[0] = 0
    found = [int(areas.argmax())]
    large = []
    for number, (rows, columns) in enumerate(places, start=1):
        if areas[number] < _LEAST_GROUND or number == found[0]:
            continue
        goes_across = columns.start <= 2 and columns.stop >= width - 2
        goes_down = rows.start <= 2 and rows.stop >= height - 2
        is_large = areas[number] >= _PANEL * height * width
        if goes_across or goes_down or (is_large and _is_panel(regions[rows, columns], number)):
            found.append(number)
        elif is_large:
            large.append(number)
    looks = {number: _look_of(regions, places[number - 1], number, smooth) for number in (*found, *large)}
    for number in large:
        likes = [other for other in looks if other != number and np.abs(looks[other] - looks[number]).max() <= _ALIKE]
        holds = areas[[number, *likes]].min() < _EMPTY * areas[[number, *likes]].max()
        # Panels beside each other are of one size, and something is in one of them.
        if likes and (holds or set(likes) & set(found)):
            found.append(number)
    return found


def _look_of(regions: Labels, place: tuple[slice, slice], number: int, smooth: Float32Array) -> Float32Array:
    """Width, height and colour of a region."""
    rows, columns = place
    colour = np.median(smooth[place][regions[place] == number], axis=0)
    return np.array([columns.stop - columns.start, rows.stop - rows.start, *colour], dtype=np.float32)


def frame_of(regions: Labels, grounds: Sequence[int], picture: UInt8Array) -> Box:
    """The picture without the strips of one colour that fill it along two opposite sides, or one."""
    from scipy import ndimage

    height, width = regions.shape
    frame = Box(0, 0, width, height)
    places = ndimage.find_objects(regions)
    strips: dict[int, Box] = {}
    for number in grounds:
        rows, columns = places[number - 1]
        without = _without_strip(rows, columns, frame)
        is_plain = picture[rows, columns].reshape(-1, 3).std(axis=0).max() <= _NOISE
        if without is not None and is_plain and (regions[rows, columns] == number).all():
            strips[number] = without
    # An empty panel has the colour of other panels.
    others = [np.median(picture[regions == number], axis=0) for number in grounds if number not in strips]
    for number, (left, top, right, bottom) in strips.items():
        colour = np.median(picture[regions == number], axis=0)
        if all(np.abs(colour - other).max() > _PLAIN for other in others):
            frame = Box(max(frame.left, left), max(frame.top, top), min(frame.right, right), min(frame.bottom, bottom))
    return frame


def _without_strip(rows: slice, columns: slice, whole: Box) -> Box | None:
    """What is left of a picture without a strip along one of its sides, None where this is no such strip."""
    least, most = _MOST_PADDING, 1 - _MOST_PADDING
    if rows.stop - rows.start >= whole.height - 2:
        if columns.start == 0 and columns.stop < least * whole.width:
            return whole._replace(left=columns.stop + 1)
        if columns.stop == whole.width and columns.start > most * whole.width:
            return whole._replace(right=columns.start - 1)
    if columns.stop - columns.start >= whole.width - 2:
        if rows.start == 0 and rows.stop < least * whole.height:
            return whole._replace(top=rows.stop + 1)
        if rows.stop == whole.height and rows.start > most * whole.height:
            return whole._replace(bottom=rows.start - 1)
    return None


def are_grounds(regions: Labels, grounds: Sequence[int], frame: Box, picture: UInt8Array) -> bool:
    """Whether what was taken for ground is likely to be: around a picture, and grey or of one colour.

    Coloured rectangles may be panels or what is asked about.
    """
    inside = regions[frame.top : frame.bottom, frame.left : frame.right]
    edge = np.concatenate([inside[_EDGE], inside[-1 - _EDGE], inside[:, _EDGE], inside[:, -1 - _EDGE]])
    names = _colours(regions, grounds, frame, picture)
    is_around = ((edge > 0) & ~np.isin(edge, grounds)).mean() <= _BESIDE
    return bool(is_around and (len(names) < 2 or names <= _GREYS))


def is_even_ground(regions: Labels, grounds: Sequence[int], smooth: Float32Array) -> bool:
    """Whether the ground does not change along the picture, as that of a photo of nothing does."""
    return all(smooth[regions == number].std(axis=0).max() <= _EVEN for number in grounds)


def colour_of_ground(regions: Labels, grounds: Sequence[int], frame: Box, picture: UInt8Array) -> str | None:
    """The name of the colour that all ground within a frame has, None of ground that has several."""
    names = _colours(regions, grounds, frame, picture)
    return names.pop() if len(names) == 1 else None


def _colours(regions: Labels, grounds: Sequence[int], frame: Box, picture: UInt8Array) -> set[str]:
    inside = np.s_[frame.top : frame.bottom, frame.left : frame.right]
    labels, pixels = regions[inside], picture[inside]
    areas = {number: int((labels == number).sum()) for number in grounds}
    return {
        colour_of(np.median(pixels[labels == number], axis=0).tolist())
        for number, area in areas.items()
        if area > _PANEL * labels.size
    }


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
