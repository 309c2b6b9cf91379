"""Measures the points of a line chart: what differs from its ground, grid and texts above each label is the line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.inference.chart_lookup import LEAST_DIFFERENCE, Chart
from fastvlm.inference.page import ReadLine

_REACH_PX = 3
"""On each side of the middle of a label, and above and below a point: as far as its mark reaches."""

_LEAST_INK = 6
"""Pixels of a point's mark, of 49, at least."""


def points_of(chart: Chart, lines: Sequence[ReadLine]) -> list[float | None]:
    """What a line is worth over each label of a chart with an upright axis; None where none is found.

    lines: all that are written on the picture, which are no part of the line.
    """
    zero = round(chart.axis.zero)
    if chart.axis.direction != "up" or not _REACH_PX < zero <= chart.picture.shape[0]:
        return [None] * len(chart.labels)
    left = max(tick.box.right for tick in chart.axis.ticks) + 1
    part = chart.picture[:zero, left:].astype(np.float32)
    # The ground may change along both sides, and rules run along them: neither is left in what differs from medians.
    part = part - np.median(part, axis=0, keepdims=True)
    part = part - np.median(part, axis=1, keepdims=True)
    ink = (np.abs(part).max(axis=2) >= LEAST_DIFFERENCE).astype(np.float32)
    _leave_out([line for line in lines if not line.is_number], ink, left)
    without_numbers = ink.copy()
    _leave_out([line for line in lines if line.is_number], without_numbers, left)
    values: list[float | None] = []
    for label in chart.labels:
        column = round((label.box.left + label.box.right) / 2) - left
        row = _row_of(without_numbers, column)
        if row is None:
            row = _row_of(ink, column)  # a number may be written over the mark of its point
        values.append(None if row is None else chart.axis.value(row))
    return values


def _leave_out(lines: Sequence[ReadLine], ink: Float32Array, left: int) -> None:
    for line in lines:
        ink[line.box.top : line.box.bottom, max(0, line.box.left - left) : max(0, line.box.right - left)] = 0


def _row_of(ink: Float32Array, column: int) -> float | None:
    """The row around which most ink is, near a column."""
    near = ink[:, max(0, column - _REACH_PX) : max(0, column + _REACH_PX + 1)].sum(axis=1)
    window = np.ones(2 * _REACH_PX + 1)
    if near.size < window.size:
        return None
    amounts = np.convolve(near, window, "same")
    row = int(amounts.argmax())
    if amounts[row] < _LEAST_INK:
        return None
    first = max(0, row - _REACH_PX)
    share = near[first : row + _REACH_PX + 1]
    return first + float((np.arange(len(share)) * share).sum() / share.sum())
