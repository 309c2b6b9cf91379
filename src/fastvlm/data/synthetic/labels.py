"""What each cell of a scene shows, as arrays: targets of auxiliary training losses that only made pictures can have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastvlm.data.synthetic.draw import fill_index_map
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.scene import Scene
from fastvlm.data.synthetic.shapes import SHAPES

Int8Array = npt.NDArray[np.int8]
Float32Array = npt.NDArray[np.float32]

NUM_TOKEN_FEATURES = len(SHAPES) + len(COLORS) + len(SHAPES) * len(COLORS)
"""Per shape, per colour, and per (shape, colour) pair, the colour running fastest: 9 + 11 + 99."""

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


def token_targets(scene: Scene, cell_px: int = 64) -> Float32Array:
    """Count the object centres in each cell, float32 [rows * columns, NUM_TOKEN_FEATURES], cells in row-major order."""
    rows, columns = scene.height_px // cell_px, scene.width_px // cell_px
    targets = np.zeros((rows * columns, NUM_TOKEN_FEATURES), np.float32)
    for item in scene.objects:
        row = min(rows - 1, int(item.center_y_px // cell_px))
        column = min(columns - 1, int(item.center_x_px // cell_px))
        shape, color = SHAPES.index(item.shape), COLORS.index(item.color)
        pair = len(SHAPES) + len(COLORS) + shape * len(COLORS) + color
        targets[row * columns + column, [shape, len(SHAPES) + color, pair]] += 1
    return targets
