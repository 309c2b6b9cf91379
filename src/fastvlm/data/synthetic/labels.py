"""What each cell of a scene shows, as arrays: targets of auxiliary training losses that only made pictures can have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastvlm.data.synthetic.draw import fill_index_map
from fastvlm.data.synthetic.palette import BACKGROUND_COLORS, COLORS
from fastvlm.data.synthetic.scene import Scene, SceneObject
from fastvlm.data.synthetic.shapes import SHAPES

Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]

NUM_PAIRS = len(SHAPES) * len(COLORS)
"""(Shape, colour) pairs, the colour running fastest."""

PLACE_STEPS = np.arange(1, 20, dtype=np.float32) / 20
SIZE_STEPS = np.array([0.1, 0.157, 0.215, 0.278, 0.35], np.float32)
NUM_STEPS = 2 * len(PLACE_STEPS) + len(SIZE_STEPS)
"""Marks that the place across, the place down and the size of an object pass or do not, by the picture's sides."""

MAX_NUMBERED_CELLS = 16
"""Columns and rows of cells that have a number of their own; any further ones share the last."""

TOKEN_CELL_PX = 32
"""What a visual token covers of a scene, whose pixels are enlarged to twice its sides for the model: few objects share
a token then."""

_NUM_COUNTS = NUM_PAIRS + len(SHAPES) + len(COLORS) + 1
_NUM_VALUES = 3 + NUM_STEPS

NUM_TOKEN_FEATURES = _NUM_COUNTS + _NUM_VALUES + 2 * MAX_NUMBERED_CELLS + 2 + len(BACKGROUND_COLORS)
"""Counts by pair, by shape, by colour and of all; mean place across and down and size, and the steps that they pass;
the cell's column and row as marks, the numbers of columns and rows, and the colour of the background."""

_MAP_SCALE = 0.5
_MIN_COVERAGE = 0.25


def label_maps(scene: Scene, cell_px: int = 16) -> tuple[Int8Array, Int8Array]:
    """Give the shape map and the colour map, int8 [height / cell_px, width / cell_px]: 0 background, else class + 1.

    A cell belongs to the object that covers most of it, if that is a quarter or more; an object too small for that
    owns the cell that it covers most, so that every object is on the map.
    """
    rows, columns = scene.height_px // cell_px, scene.width_px // cell_px
    shape_map, color_map = np.zeros((rows, columns), np.int8), np.zeros((rows, columns), np.int8)
    if not scene.objects:
        return shape_map, color_map
    owner = _owners(scene, rows, columns, round(cell_px * _MAP_SCALE))
    shape_classes = np.array([0] + [SHAPES.index(item.shape) + 1 for item in scene.objects], np.int8)
    color_classes = np.array([0] + [COLORS.index(item.color) + 1 for item in scene.objects], np.int8)
    return shape_classes[owner], color_classes[owner]


def _owners(scene: Scene, rows: int, columns: int, samples: int) -> npt.NDArray[np.int64]:
    """Index + 1 of the object that owns each cell, 0 for none."""
    num_values = len(scene.objects) + 1
    index_map = fill_index_map(scene, scale=_MAP_SCALE).astype(np.int64)
    cells = np.arange(rows * columns).reshape(rows, columns).repeat(samples, axis=0).repeat(samples, axis=1)
    counts = np.bincount((cells * num_values + index_map).ravel(), minlength=rows * columns * num_values)
    coverage = counts.reshape(rows * columns, num_values)[:, 1:] / samples**2
    best = coverage.argmax(axis=1)
    owner = np.where(coverage.max(axis=1) >= _MIN_COVERAGE, best + 1, 0)
    for index in np.flatnonzero(coverage.max(axis=0) < _MIN_COVERAGE):
        cell = coverage[:, index].argmax()
        if owner[cell] == 0:
            owner[cell] = index + 1
    return owner.reshape(rows, columns)


def center_map(scene: Scene, cell_px: int = 16) -> Int8Array:
    """Give the pair whose object has its centre in each cell, int8 [height / cell_px, width / cell_px].

    0 is none, else the number of the pair + 1. Of two centres in one cell, which small objects may have, one is given.
    """
    rows, columns = scene.height_px // cell_px, scene.width_px // cell_px
    centers = np.zeros((rows, columns), np.int8)
    for item in scene.objects:
        shape, color = SHAPES.index(item.shape), COLORS.index(item.color)
        centers[cell_of(item, rows, columns, cell_px)] = shape * len(COLORS) + color + 1
    return centers


PLACE_WEIGHT, ABSENT_WEIGHT = 0.25, 0.0125
"""How much the place and size of what is there matter, and of what is not, beside 1 for counts."""


def token_features(scene: Scene, cell_px: int = TOKEN_CELL_PX) -> tuple[Float32Array, Float32Array]:
    """Describe what each visual token should know and how much it matters.

    Both are float32 [rows * columns, NUM_TOKEN_FEATURES], row by row. Objects belong to cells as `cell_shares` says.
    Places run from -2 to 2 over the picture, sizes are quarters of its short side; they are means over the objects of a
    cell, and 0 where there are none. Steps say the same as marks that are passed (1) or not (0): such numbers are read
    without comparing. The numbers of columns and rows are given over eight.
    """
    rows, columns = scene.height_px // cell_px, scene.width_px // cell_px
    pairs = np.zeros((rows, columns, NUM_PAIRS), np.float32)
    counts = np.zeros((rows, columns, len(SHAPES) + len(COLORS) + 1), np.float32)
    values = np.zeros((rows, columns, _NUM_VALUES), np.float32)
    for item in scene.objects:
        shape, color = SHAPES.index(item.shape), COLORS.index(item.color)
        across, down, size = place_and_size(scene, item)
        own_values = np.array([4 * across - 2, 4 * down - 2, 4 * size, *passed_steps(scene, item)], np.float32)
        for number, share in cell_shares(item, rows, columns, cell_px):
            cell = divmod(number, columns)
            pairs[cell][shape * len(COLORS) + color] += share
            counts[cell][[shape, len(SHAPES) + color, -1]] += share
            values[cell] += share * own_values
    num_objects = counts[..., -1:]
    values /= np.where(num_objects > 0, num_objects, 1)
    value_weights = ABSENT_WEIGHT + (PLACE_WEIGHT - ABSENT_WEIGHT) * np.minimum(num_objects, 1)
    surroundings = np.concatenate([_cell_marks(rows, columns), _whole_picture(scene, rows, columns)], axis=-1)
    features = np.concatenate([pairs, counts, values, surroundings], axis=-1)
    weights = np.ones_like(features)
    weights[..., _NUM_COUNTS : _NUM_COUNTS + _NUM_VALUES] = value_weights
    weights[..., _NUM_COUNTS + _NUM_VALUES :] = PLACE_WEIGHT
    return features.reshape(rows * columns, -1), weights.reshape(rows * columns, -1).astype(np.float32)


def _cell_marks(rows: int, columns: int) -> Float32Array:
    """A 1 for the column and a 1 for the row of each cell, float32 rows x columns x (2 * MAX_NUMBERED_CELLS)."""
    marks = np.zeros((rows, columns, 2 * MAX_NUMBERED_CELLS), np.float32)
    for column in range(columns):
        marks[:, column, min(column, MAX_NUMBERED_CELLS - 1)] = 1
    for row in range(rows):
        marks[row, :, MAX_NUMBERED_CELLS + min(row, MAX_NUMBERED_CELLS - 1)] = 1
    return marks


def _whole_picture(scene: Scene, rows: int, columns: int) -> Float32Array:
    """What is the same for all cells: the numbers of columns and rows, and a mark for the background's colour."""
    background = [scene.background.color == color for color in BACKGROUND_COLORS]
    numbers = np.array([columns / 8, rows / 8, *background], np.float32)
    return np.broadcast_to(numbers, (rows, columns, len(numbers)))


def place_and_size(scene: Scene, item: SceneObject) -> tuple[float, float, float]:
    """How far across and down the picture an object's centre lies, and its size by the short side, each 0 to 1."""
    frame = scene.frame
    across, down = (item.center_x_px - frame.left) / frame.width, (item.center_y_px - frame.top) / frame.height
    return across, down, item.size_px / scene.short_side_px


def passed_steps(scene: Scene, item: SceneObject) -> Float32Array:
    """Which of the NUM_STEPS marks an object has passed, as 0 and 1: across and down the picture, and in size."""
    across, down, size = place_and_size(scene, item)
    return np.concatenate([across > PLACE_STEPS, down > PLACE_STEPS, size > SIZE_STEPS]).astype(np.float32)


_BORDER_SHARE = 0.1
"""How far to either side of a border between two cells an object belongs to both, by a cell's side.

Attention weighs what is in two cells less than what is in one, so that few objects should be."""


def cell_shares(item: SceneObject, rows: int, columns: int, cell_px: int) -> list[tuple[int, float]]:
    """Give the cells that an object belongs to, numbered row by row, each with its share; the shares sum to 1.

    It is the cell of its centre; near a border the share passes from one cell to the next gradually, so that a slip of
    a pixel changes little, and sums over cells still count objects.
    """
    down = _shares_along(item.center_y_px / cell_px, rows)
    across = _shares_along(item.center_x_px / cell_px, columns)
    return [(row * columns + column, share * other) for row, share in down for column, other in across]


def _shares_along(place: float, num_cells: int) -> list[tuple[int, float]]:
    """The one or two cells around a place that is given in cells, with their shares."""
    border = round(place)
    share_beyond = (place - border) / (2 * _BORDER_SHARE) + 0.5
    if not 0 < border < num_cells or not 0 < share_beyond < 1:
        return [(min(num_cells - 1, int(place)), 1.0)]
    return [(border - 1, 1 - share_beyond), (border, share_beyond)]


def cell_of(item: SceneObject, rows: int, columns: int, cell_px: int) -> tuple[int, int]:
    """Row and column of the cell that holds an object's centre."""
    return min(rows - 1, int(item.center_y_px // cell_px)), min(columns - 1, int(item.center_x_px // cell_px))
