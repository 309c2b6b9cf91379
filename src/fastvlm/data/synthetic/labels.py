"""What each cell of a scene shows, as arrays: targets of auxiliary training losses that only made pictures can have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastvlm.data.synthetic.draw import fill_index_map
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.scene import Scene, SceneObject
from fastvlm.data.synthetic.shapes import SHAPES

Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]

NUM_PAIRS = len(SHAPES) * len(COLORS)
"""(Shape, colour) pairs, the colour running fastest."""

_PLACE_STEPS = np.arange(1, 10, dtype=np.float32) / 10
_SIZE_STEPS = np.array([0.1, 0.157, 0.215, 0.278, 0.35], np.float32)
_NUM_STEPS = 2 * len(_PLACE_STEPS) + len(_SIZE_STEPS)

MAX_NUMBERED_CELLS = 8
"""Columns and rows of cells that have a number of their own; any further ones share the last."""

NUM_TOKEN_FEATURES = NUM_PAIRS + 4 * (len(SHAPES) + len(COLORS) + 1) + _NUM_STEPS + 2 * MAX_NUMBERED_CELLS + 4
"""Per pair its count; per shape, per colour and for all: count, mean place across and down, size; for all the steps
that place and size pass; the cell's column and row as marks, and four numbers of the cell."""

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
        centers[_cell(item, rows, columns, cell_px)] = shape * len(COLORS) + color + 1
    return centers


PLACE_WEIGHT, ABSENT_WEIGHT = 0.25, 0.0125
"""How much the place and size of what is there matter, and of what is not, beside 1 for counts."""


def token_features(scene: Scene, cell_px: int = 64) -> tuple[Float32Array, Float32Array]:
    """Describe what each visual token should know and how much it matters.

    Both are float32 [rows * columns, NUM_TOKEN_FEATURES], row by row. An object belongs to the cell of its centre.
    Places are offsets from the middle of the canvas in half cells, sizes are eighths of the picture's short side; both
    are 0 where there is nothing. Steps say the same as marks that are passed (1) or not (0), from tenths of the picture
    and from one name of a size to the next: such numbers are read without comparing. The last numbers are the cell's
    column and row as marks, its place, and the numbers of columns and rows over four.
    """
    rows, columns = scene.height_px // cell_px, scene.width_px // cell_px
    pairs = np.zeros((rows, columns, NUM_PAIRS), np.float32)
    attributes = np.zeros((rows, columns, len(SHAPES) + len(COLORS) + 1, 4), np.float32)
    steps = np.zeros((rows, columns, _NUM_STEPS), np.float32)
    for item in scene.objects:
        cell = _cell(item, rows, columns, cell_px)
        shape, color = SHAPES.index(item.shape), COLORS.index(item.color)
        across, down = 2 * item.center_x_px / cell_px - columns, 2 * item.center_y_px / cell_px - rows
        size = item.size_px / scene.short_side_px
        pairs[cell][shape * len(COLORS) + color] += 1
        attributes[cell][[shape, len(SHAPES) + color, -1]] += (1, across, down, 8 * size)
        steps[cell] += _passed_steps(scene, item)
    numbers = np.maximum(attributes[..., :1], 1)
    attributes[..., 1:] /= numbers
    steps /= numbers[..., -1, :]
    place = np.zeros((rows, columns, 4), np.float32)
    place[..., 0] = 2 * np.arange(columns) + 1 - columns
    place[..., 1] = 2 * np.arange(rows)[:, None] + 1 - rows
    place[..., 2:] = columns / 4, rows / 4
    value_weight = np.where(attributes[..., :1] > 0, PLACE_WEIGHT, ABSENT_WEIGHT)
    importance = np.concatenate([np.ones_like(value_weight), np.repeat(value_weight, 3, axis=-1)], axis=-1)
    marks = _cell_marks(rows, columns)
    features = _rows_of_features(pairs, attributes, steps, marks, place)
    step_weights = np.broadcast_to(value_weight[..., -1, :], steps.shape)
    place_weights = np.full_like(np.concatenate([marks, place], axis=-1), PLACE_WEIGHT)
    weights = _rows_of_features(np.ones_like(pairs), importance, step_weights, place_weights)
    return features, weights


def _cell_marks(rows: int, columns: int) -> Float32Array:
    """A 1 for the column and a 1 for the row of each cell, float32 rows x columns x (2 * MAX_NUMBERED_CELLS)."""
    marks = np.zeros((rows, columns, 2 * MAX_NUMBERED_CELLS), np.float32)
    for column in range(columns):
        marks[:, column, min(column, MAX_NUMBERED_CELLS - 1)] = 1
    for row in range(rows):
        marks[row, :, MAX_NUMBERED_CELLS + min(row, MAX_NUMBERED_CELLS - 1)] = 1
    return marks


def _passed_steps(scene: Scene, item: SceneObject) -> Float32Array:
    """Which marks an object has passed, as 0 and 1: across and down the picture, and in size."""
    frame = scene.frame
    return np.concatenate(
        [
            (item.center_x_px - frame.left) / frame.width > _PLACE_STEPS,
            (item.center_y_px - frame.top) / frame.height > _PLACE_STEPS,
            item.size_px / scene.short_side_px > _SIZE_STEPS,
        ]
    ).astype(np.float32)


def _rows_of_features(*parts: Float32Array) -> Float32Array:
    """Join the parts, each rows x columns x its own numbers, into one row of numbers for each cell."""
    rows, columns = parts[0].shape[:2]
    features = np.concatenate([part.reshape(rows, columns, -1) for part in parts], axis=-1)
    return features.reshape(rows * columns, NUM_TOKEN_FEATURES).astype(np.float32)


def _cell(item: SceneObject, rows: int, columns: int, cell_px: int) -> tuple[int, int]:
    """Row and column of the cell that holds an object's centre."""
    return min(rows - 1, int(item.center_y_px // cell_px)), min(columns - 1, int(item.center_x_px // cell_px))
