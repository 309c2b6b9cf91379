"""Which character stands in each small cell of a document: targets of losses that only made pictures can have."""

from __future__ import annotations

import numpy as np

from fastvlm.batches import Int64Array
from fastvlm.data.synthetic.documents.drawing import PlacedCharacters


def character_map(
    placed: PlacedCharacters, *, width_px: int, height_px: int, cell_width_px: int, cell_height_px: int
) -> Int64Array:
    """The class of the character whose centre is in each cell, 0 for none; of several in one the last is given.

    int64 [height / cell_height, width / cell_width].
    """
    found = np.zeros((height_px // cell_height_px, width_px // cell_width_px), np.int64)
    columns = (placed.centers_px[:, 0] // cell_width_px).astype(np.int64)
    rows = (placed.centers_px[:, 1] // cell_height_px).astype(np.int64)
    is_inside = (columns >= 0) & (columns < found.shape[1]) & (rows >= 0) & (rows < found.shape[0])
    found[rows[is_inside], columns[is_inside]] = np.array(placed.classes, np.int64)[is_inside]
    return found


NOT_ASKED = -1
"""In place of a class: any answer is as good."""

BACKGROUND_SHARE = 0.25
"""Of the cells without a character and away from any, those that are asked for: there are far more than needed."""


def asked(found: Int64Array, generator: np.random.Generator) -> Int64Array:
    """A map of classes without what need not be told.

    Cells around a character are not asked for: where exactly its middle lies is a matter of a pixel, and what stands
    there is what counts. Of the other empty ones a few are asked for, at random.
    """
    is_there = found > 0
    is_near = np.zeros_like(is_there)
    height, width = found.shape
    for down in (-1, 0, 1):
        for across in (-1, 0, 1):
            to = (slice(max(0, down), height + min(0, down)), slice(max(0, across), width + min(0, across)))
            of = (slice(max(0, -down), height + min(0, -down)), slice(max(0, -across), width + min(0, -across)))
            is_near[to] |= is_there[of]
    is_empty = ~is_near & (generator.random(found.shape) < BACKGROUND_SHARE)
    return np.where(is_there | is_empty, found, NOT_ASKED)


def by_cell(found: Int64Array, *, rows: int, columns: int) -> Int64Array:
    """A map of small cells as one of large ones of rows x columns small ones each, which become K = rows * columns
    classifications of each large cell: int64 [K, height / rows, width / columns]."""
    height, width = found.shape[0] // rows, found.shape[1] // columns
    split = found.reshape(height, rows, width, columns)
    return split.transpose(1, 3, 0, 2).reshape(rows * columns, height, width)
