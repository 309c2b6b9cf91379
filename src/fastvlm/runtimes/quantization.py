"""Weights in eight and four bits: symmetric, to nearest, without data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.checkpoints.arrays import StoredArray, to_float32
from fastvlm.errors import CheckpointError

GROUP_SIZE = 64
"""Inputs that share a scale: those of weights in four bits, and those that are rounded while computing."""

SMALLEST_REACH = 1e-6
"""What inputs that are rounded reach at least, so that none are divided by nothing."""

_ROWS_AT_ONCE = 4096
_SMALLEST_SCALE = np.float32(1e-12)

Int8Array = npt.NDArray[np.int8]


WHOLE_RANGE, HALF_RANGE = 127, 63
"""The largest number in eight bits. Processors without VNNI add two products in sixteen bits before they widen the sum:
where inputs are whole numbers too, weights of half the range keep that from overflowing."""


def quantized_int8(values: StoredArray, *, largest: int = WHOLE_RANGE) -> tuple[Int8Array, Float32Array]:
    """Round to -largest ... largest times a scale for each output: out x ... to the same shape, and out scales.

    Raises CheckpointError for weights that are not finite.
    """
    whole = np.empty(values.shape, np.int8)
    scales = np.empty(len(values), np.float32)
    for rows in _chunks(len(values)):
        part = to_float32(values[rows])
        scale = np.maximum(np.abs(part).reshape(len(part), -1).max(1) / largest, _SMALLEST_SCALE)
        _require_finite(scale)
        whole[rows] = np.rint(part / scale.reshape(-1, *[1] * (part.ndim - 1)))
        scales[rows] = scale
    return whole, scales


def quantized_int4(values: StoredArray) -> tuple[UInt8Array, Float32Array]:
    """Round to 0 ... 15, minus 8, times a scale for each output and group: out x in to packed values and scales.

    Packed, two in a byte and the first of them in its lower half, as out x groups x group / 2; scales: out x groups.
    The scale is signed, so that the number farthest from zero becomes -8 and the whole range is in use.
    Raises CheckpointError for weights that are not finite.
    """
    num_out, num_in = values.shape
    shape = (num_out, num_in // GROUP_SIZE, GROUP_SIZE)
    packed = np.empty((*shape[:2], GROUP_SIZE // 2), np.uint8)
    scales = np.empty(shape[:2], np.float32)
    for rows in _chunks(num_out):
        part = to_float32(values[rows]).reshape(-1, *shape[1:])
        farthest = np.take_along_axis(part, np.abs(part).argmax(-1)[..., None], -1)[..., 0]
        scale = farthest / -8
        _require_finite(scale)
        scale = np.where(np.abs(scale) < _SMALLEST_SCALE, _SMALLEST_SCALE, scale)
        numbers = (np.rint(part / scale[..., None]) + 8).clip(0, 15).astype(np.uint8)
        packed[rows] = numbers[..., ::2] | numbers[..., 1::2] << 4
        scales[rows] = scale
    return packed, scales


def fits_int4(values: StoredArray) -> bool:
    """Whether the inputs of out x in divide into groups; others are kept in eight bits."""
    return values.ndim == 2 and values.shape[1] % GROUP_SIZE == 0


def _require_finite(scales: npt.NDArray[np.floating[Any]]) -> None:
    """The largest of some numbers is not finite where one of them is not."""
    if not np.isfinite(scales).all():
        raise CheckpointError(
            "Expected finite weights to hold in fewer bits, got infinite or undefined ones. Fetch the checkpoint again."
        )


def _chunks(num_rows: int) -> list[slice]:
    """Rows in pieces: a vocabulary of 150,000 words need not stand in float32 as a whole."""
    return [slice(start, start + _ROWS_AT_ONCE) for start in range(0, num_rows, _ROWS_AT_ONCE)]
