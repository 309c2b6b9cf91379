"""A decoder's weights in the order in which the kernels read them, in one piece that can be mapped from a file.

What a panel of 32 outputs looks like is written in matrices.hpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastvlm.batches import Float32Array, UInt8Array
from fastvlm.checkpoints.arrays import StoredArray, Weights, to_bfloat16, to_float32
from fastvlm.models.language.config import DecoderConfig
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.runtimes.quantization import GROUP_SIZE, quantized_int4, quantized_int8

PANEL = 32
"""Outputs of a matrix that are read together."""

Write = Callable[[int, memoryview], object]
"""Takes bytes, and where in the packed weights they belong."""

_HALF_PANEL = PANEL // 2
_ROWS_AT_ONCE = 128 * PANEL
_ALIGNMENT_BYTES = 4096


@dataclass(frozen=True)
class Section:
    """A piece of what is packed: its name, where it begins and how long it is, in bytes."""

    name: str
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class MatrixShape:
    """One packed matrix: the numbers of `name`, and the scales of its outputs where it has fewer than 16 bits."""

    name: str
    num_out: int
    num_in: int
    num_bits: int

    @property
    def num_panels(self) -> int:
        """Panels, the last of which may be filled up with nothing."""
        return math.ceil(self.num_out / PANEL)

    @property
    def num_bytes(self) -> int:
        """Of the numbers, with the shares of scales that four bits have among them."""
        bytes_of_input = PANEL * self.num_bits / 8 + (PANEL * 2 / GROUP_SIZE if self.num_bits == 4 else 0)
        return int(self.num_panels * self.num_in * bytes_of_input)


class DecoderPacking:
    """Which sections the packed weights of a decoder have, and how they are made.

    weight_format: bits of the matrices, None for bfloat16; the head never has fewer than eight. Suits configurations
    for which `suits` holds.
    """

    def __init__(self, config: DecoderConfig, weight_format: WeightFormat | None) -> None:
        self._config = config
        num_bits = {None: 16, "int8": 8, "int4": 4}[weight_format]
        width, hidden = config.width, config.feed_forward_width
        num_mixed = (config.num_heads + 2 * config.num_key_value_heads) * config.head_dim
        self.matrices: dict[str, MatrixShape] = {}
        for layer in range(config.num_layers):
            for name, num_out, num_in in (
                ("mixed", num_mixed, width),
                ("output", width, config.num_heads * config.head_dim),
                ("gate_and_up", 2 * math.ceil(hidden / _HALF_PANEL) * _HALF_PANEL, width),
                ("down", width, hidden),
            ):
                self.matrices[f"{layer}.{name}"] = MatrixShape(f"{layer}.{name}", num_out, num_in, num_bits)
        self.matrices["head"] = MatrixShape("head", config.vocabulary_size, width, max(8, num_bits))
        self.sections = {section.name: section for section in self._sections()}
        self.num_bytes = max(section.offset + section.num_bytes for section in self.sections.values())

    def _sections(self) -> Iterator[Section]:
        offset = 0
        for name, num_bytes in self._sizes():
            yield Section(name, offset, num_bytes)
            offset += math.ceil(num_bytes / _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for layer in range(self._config.num_layers):
            yield f"{layer}.attention_norm", 4 * self._config.width
            yield f"{layer}.feed_forward_norm", 4 * self._config.width
            if self._config.has_attention_bias:
                yield f"{layer}.mixed_bias", 4 * PANEL * self.matrices[f"{layer}.mixed"].num_panels
        yield "norm", 4 * self._config.width
        for name, matrix in self.matrices.items():
            if matrix.num_bits < 16:
                yield f"{name}.scales", 4 * PANEL * matrix.num_panels
            yield name, matrix.num_bytes

    def write(self, weights: Weights, into: Write) -> None:
        """Pack all weights: into(offset, bytes) is called for one piece after the other."""
        for name, section in self.sections.items():
            if name in self.matrices:
                self._write_matrix(self.matrices[name], weights, into)
            elif not name.endswith(".scales"):
                values = self._small(name, weights)
                into(section.offset, _padded(values, section.num_bytes // 4).data)

    def _write_matrix(self, shape: MatrixShape, weights: Weights, into: Write) -> None:
        values = self._values(shape.name, weights)
        pack = {16: _in_16, 8: _in_8, 4: _in_4}[shape.num_bits]
        offset = self.sections[shape.name].offset
        for start in range(0, shape.num_panels * PANEL, _ROWS_AT_ONCE):
            rows = values[start : start + _ROWS_AT_ONCE]
            numbers, scales = pack(_padded(rows, math.ceil(len(rows) / PANEL) * PANEL))
            into(offset, numbers.data)
            offset += numbers.nbytes
            if scales is not None:
                into(self.sections[f"{shape.name}.scales"].offset + 4 * start, scales.data)

    def _small(self, name: str, weights: Weights) -> Float32Array:
        if name == "norm":
            return weights.exact("decoder.norm.weight")
        layer, part = name.split(".")
        prefix = f"decoder.layers.{layer}"
        if part != "mixed_bias":
            return weights.exact(f"{prefix}.{part}.weight")
        return np.concatenate([weights.exact(f"{prefix}.attention.{part}.bias") for part in ("query", "key", "value")])

    def _values(self, name: str, weights: Weights) -> StoredArray:
        if name == "head":
            table = "embed_tokens" if self._config.has_tied_head else "head"
            return weights.stored(f"decoder.{table}.weight")
        layer, part = name.split(".")
        stored = partial(_stored, weights, f"decoder.layers.{layer}")
        if part == "mixed":
            return _below(stored("attention.query"), stored("attention.key"), stored("attention.value"))
        if part == "gate_and_up":
            return _in_turn(stored("feed_forward.gate"), stored("feed_forward.up"))
        return stored("attention.output" if part == "output" else "feed_forward.down")


def suits(config: DecoderConfig) -> bool:
    """Whether the kernels can read a decoder of this shape: inputs come in groups, and numbers of a head in vectors."""
    inputs = (config.width, config.feed_forward_width, config.num_heads * config.head_dim)
    return all(size % GROUP_SIZE == 0 for size in inputs) and config.head_dim % 32 == 0 and config.head_dim <= 256


def _stored(weights: Weights, prefix: str, name: str) -> StoredArray:
    return weights.stored(f"{prefix}.{name}.weight")


def _below(*parts: StoredArray) -> StoredArray:
    if len({part.dtype for part in parts}) > 1:
        return np.concatenate([to_float32(part) for part in parts])
    return np.concatenate(parts)


def _in_turn(first: StoredArray, second: StoredArray) -> StoredArray:
    """16 rows of one and 16 of the other, so that a panel holds both halves of what SwiGLU multiplies."""
    rows = math.ceil(len(first) / _HALF_PANEL) * _HALF_PANEL
    both = _below(_padded(first, rows), _padded(second, rows))
    return both.reshape(2, -1, _HALF_PANEL, both.shape[1]).swapaxes(0, 1).reshape(2 * rows, -1)


def _padded(values: StoredArray, num_rows: int) -> StoredArray:
    if len(values) == num_rows:
        return np.ascontiguousarray(values)
    return np.concatenate([values, np.zeros((num_rows - len(values), *values.shape[1:]), values.dtype)])


def _in_panels(values: UInt8Array, num_in: int) -> UInt8Array:
    """Rows of words of four bytes, whatever they hold, to panels: for each word, one of each row."""
    words = np.ascontiguousarray(values).reshape(-1, PANEL, num_in).view(np.uint32)
    return np.ascontiguousarray(words.swapaxes(1, 2)).view(np.uint8).reshape(len(words), -1)


def _in_16(values: StoredArray) -> tuple[UInt8Array, None]:
    bits = values if values.dtype == np.uint16 else to_bfloat16(to_float32(values))
    return _in_panels(np.ascontiguousarray(bits).view(np.uint8), 2 * values.shape[1]).ravel(), None


def _in_8(values: StoredArray) -> tuple[UInt8Array, Float32Array]:
    whole, scales = quantized_int8(values)
    return _in_panels(whole.view(np.uint8) ^ np.uint8(0x80), values.shape[1]).ravel(), scales


def _in_4(values: StoredArray) -> tuple[UInt8Array, Float32Array]:
    packed, scales = quantized_int4(values)
    num_rows, num_groups = scales.shape
    numbers = np.stack([packed & 15, packed >> 4], -1).reshape(num_rows, num_groups * GROUP_SIZE // 8, 2, 4)
    halves = (numbers[:, :, 0] | numbers[:, :, 1] << 4).astype(np.uint8)
    panels = _in_panels(halves, num_groups * GROUP_SIZE // 2).reshape(-1, num_groups, PANEL * GROUP_SIZE // 2)
    reach = np.abs(scales).max(1)
    shares = (scales / reach[:, None]).astype(np.float16).reshape(-1, PANEL, num_groups).swapaxes(1, 2)
    shares = np.ascontiguousarray(shares).view(np.uint8).reshape(len(panels), num_groups, -1)
    return np.concatenate([shares, panels], -1).ravel(), reach
