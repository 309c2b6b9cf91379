"""Weights in the order in which the kernels read them, in one piece that can be mapped from a file.

What a panel of 32 outputs looks like is written in matrices.hpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.checkpoints.arrays import StoredArray, to_bfloat16, to_float32
from fastvlm.runtimes.quantization import GROUP_SIZE, quantized_int4, quantized_int8

PANEL = 32
"""Outputs of a matrix that are read together."""

LARGEST_HEAD = 256
"""Numbers of a head of attention that the kernels have room for; see attention.hpp."""

POSITIONS = 16
"""Positions whose keys lie together; see attention.hpp."""

Write = Callable[[int, StoredArray], object]
"""Takes the place of some bytes in what is packed, and an array that holds them."""

_ROWS_AT_ONCE = 8 * PANEL
"""So few as stay in a core's cache while they are rounded."""

_ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Small:
    """A few numbers in float32, `num_values` of them, filled up with nothing."""

    name: str
    num_values: int
    make: Callable[[], Float32Array]

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Names of its sections and their bytes."""
        yield self.name, 4 * self.num_values

    def write(self, places: dict[str, int], into: Write) -> None:
        """Make them."""
        into(places[self.name], _padded(np.asarray(self.make(), np.float32).ravel(), self.num_values))


@dataclass(frozen=True)
class Matrix:
    """A matrix, num_out x num_in, in so many bits: `name` are its numbers, and beside them, where these are fewer than
    16, scales of its outputs.

    reach: how far from zero its inputs go, of a matrix in eight bits whose inputs have one scale that is known before;
    it is among the scales then.
    """

    name: str
    num_out: int
    num_in: int
    num_bits: int
    make: Callable[[], StoredArray]
    reach: float | None = None

    @property
    def num_panels(self) -> int:
        """Panels, the last of which may be filled up with nothing."""
        return math.ceil(self.num_out / PANEL)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Names of its sections and their bytes."""
        bytes_of_input = PANEL * self.num_bits / 8 + (PANEL * 2 / GROUP_SIZE if self.num_bits == 4 else 0)
        yield self.name, int(self.num_panels * self.num_in * bytes_of_input)
        if self.num_bits < 16:
            yield f"{self.name}.scales", 4 * PANEL * self.num_panels

    def write(self, places: dict[str, int], into: Write) -> None:
        """Make all of them, some hundred outputs at once."""
        values = self.make()
        offset = places[self.name]
        for start in range(0, self.num_out, _ROWS_AT_ONCE):
            rows = values[start : start + _ROWS_AT_ONCE].reshape(-1, self.num_in)
            numbers, scales = self._pack(_padded(rows, math.ceil(len(rows) / PANEL) * PANEL))
            into(offset, numbers)
            offset += numbers.nbytes
            if scales is not None:
                into(places[f"{self.name}.scales"] + 4 * start, scales)

    def _pack(self, values: StoredArray) -> tuple[UInt8Array, Float32Array | None]:
        if self.num_bits == 16:
            return _in_16(values), None
        if self.num_bits == 4:
            return _in_4(values)
        whole, scales = quantized_int8(values)
        input_scale = np.float32(1 if self.reach is None else self.reach / 127)
        return _in_panels(whole.view(np.uint8) ^ np.uint8(0x80)), scales * input_scale


class Packing:
    """Which sections packed weights have, and where each begins."""

    def __init__(self, parts: Sequence[Small | Matrix]) -> None:
        self._parts = parts
        self.matrices = {part.name: part for part in parts if isinstance(part, Matrix)}
        self.places: dict[str, int] = {}
        self.num_bytes = 0
        for part in parts:
            for name, num_bytes in part.sizes():
                self.places[name] = self.num_bytes
                self.num_bytes += math.ceil(num_bytes / _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES

    def write(self, into: Write, *, num_threads: int) -> None:
        """Pack all weights. into: is called from several threads."""

        def write(part: Small | Matrix) -> None:
            part.write(self.places, into)

        with ThreadPoolExecutor(num_threads, thread_name_prefix="fastvlm-packing") as pool:
            try:
                written = pool.map(write, self._parts)
            except RuntimeError:  # of a system that has no more threads; those that there are write the same
                written = map(write, self._parts)
            # The first error is raised, and what has not been begun is left out then.
            for _ in written:
                pass


def below(*parts: StoredArray) -> StoredArray:
    """Matrices with the same inputs as one."""
    if len({part.dtype for part in parts}) > 1:
        return np.concatenate([to_float32(part) for part in parts])
    return np.concatenate(parts)


def in_turn(first: StoredArray, second: StoredArray) -> StoredArray:
    """Half a panel of one and half a panel of the other, so that each holds both sides of what SwiGLU multiplies."""
    both = below(first, second)
    return both.reshape(2, -1, PANEL // 2, both.shape[1]).swapaxes(0, 1).reshape(both.shape)


def _padded(values: StoredArray, num_rows: int) -> StoredArray:
    if len(values) == num_rows:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.zeros((num_rows - len(values), *values.shape[1:]), values.dtype)])


def _in_panels(values: UInt8Array) -> UInt8Array:
    """Rows of bytes to panels: for each four bytes, those of one row after the other."""
    words = np.ascontiguousarray(values).reshape(-1, PANEL, values.shape[1]).view(np.uint32)
    return np.ascontiguousarray(words.swapaxes(1, 2)).view(np.uint8).reshape(len(words), -1)


def _in_16(values: StoredArray) -> UInt8Array:
    bits = values if values.dtype == np.uint16 else to_bfloat16(to_float32(values))
    return _in_panels(np.ascontiguousarray(bits).view(np.uint8))


def _in_4(values: StoredArray) -> tuple[UInt8Array, Float32Array]:
    packed, scales = quantized_int4(values)
    num_rows, num_groups = scales.shape
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(num_rows, num_groups * GROUP_SIZE // 8, 2, 4)
    halves = (numbers[:, :, 0] | numbers[:, :, 1] << 4).astype(np.uint8).reshape(num_rows, -1)
    panels = _in_panels(halves).reshape(-1, num_groups, PANEL * GROUP_SIZE // 2)
    reach = np.abs(scales).max(1)
    shares = (scales / reach[:, None]).astype(np.float16).reshape(-1, PANEL, num_groups).swapaxes(1, 2)
    shares = np.ascontiguousarray(shares).view(np.uint8).reshape(len(panels), num_groups, -1)
    return np.concatenate([shares, panels], -1), reach
