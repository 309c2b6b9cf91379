"""Pieces of OpenVINO graphs, in the forms that its CPU plugin recognises and fuses.

Some of these forms are nowhere documented; tests/runtimes/test_openvino.py counts what became of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import StoredArray, to_bfloat16
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.runtimes.quantization import (
    GROUP_SIZE,
    SMALLEST_REACH,
    WHOLE_RANGE,
    fits_int4,
    quantized_int4,
    quantized_int8,
)

Node = Any
"""An output of an operation: openvino's own classes have no types that mypy could read."""

_FLOAT = "f32"
_IS_DECOMPRESSION = "decompression_0"


class Constants:
    """Makes constants that share the memory of arrays, and keeps these arrays alive.

    precision: `float32`, or `bfloat16` for matrices and kernels; a graph computes in what it is compiled for.
    largest: the largest number of a weight in eight bits, WHOLE_RANGE or HALF_RANGE.
    """

    def __init__(self, precision: str, *, largest: int = WHOLE_RANGE) -> None:
        self.precision, self._largest = precision, largest
        self._kept: list[object] = []

    def exact(self, values: Float32Array) -> Node:
        """A small constant in float32: a bias, a scale, a norm's weight."""
        return self._shared(np.ascontiguousarray(values, np.float32), None)

    def weight(self, values: StoredArray) -> Node:
        """A matrix or a kernel: as it is stored where that is no wider than `precision`, else rounded to it."""
        if values.dtype == np.float32 and self.precision == "bfloat16":
            values = to_bfloat16(np.asarray(values, np.float32))
        if values.dtype == np.uint16:
            return _widened(self._shared(np.ascontiguousarray(values), ov.Type.bf16))
        if values.dtype == np.float16:
            return _widened(self._shared(np.ascontiguousarray(values), None))
        return self._shared(np.ascontiguousarray(values, np.float32), None)

    def matrix(self, values: StoredArray, weight_format: WeightFormat | None) -> Node:
        """A matrix out x in, or a kernel out x in x 1 x 1, in so many bits; None as `weight` has it.

        Where four bits do not fit, it is eight.
        """
        if weight_format is None:
            return self.weight(values)
        if weight_format == "int4" and fits_int4(values):
            return self._int4(values)
        numbers, scales = quantized_int8(values, largest=self._largest)
        wide = ops.convert(self._shared(numbers, None), _FLOAT)
        return ops.multiply(wide, self.exact(scales.reshape(-1, *[1] * (values.ndim - 1))))

    def _int4(self, values: StoredArray) -> Node:
        packed, scales = quantized_int4(values)
        shape = ov.Shape([*packed.shape[:2], GROUP_SIZE])
        self._kept.append(packed)
        numbers = ov.op.Constant(ov.Tensor(packed, shape, ov.Type.u4), shared_memory=True)
        middle = ops.convert(self._shared(np.full(1, 8, np.uint8), None), _FLOAT)
        wide = ops.multiply(ops.subtract(ops.convert(numbers, _FLOAT), middle), self.exact(scales[..., None]))
        return ops.reshape(wide, integers(*values.shape), False)

    def _shared(self, values: StoredArray, element_type: ov.Type | None) -> Node:
        self._kept.append(values)
        if element_type is None:
            tensor = ov.Tensor(values, shared_memory=True)
        else:
            tensor = ov.Tensor(values, ov.Shape(values.shape), element_type)
        return ov.op.Constant(tensor, shared_memory=True)


def _widened(constant: Node) -> Node:
    wide = ops.convert(constant, _FLOAT)
    # Without this mark the plugin widens the weights in memory, and they take twice the room.
    wide.get_rt_info()[_IS_DECOMPRESSION] = True
    return wide


def integers(*values: int) -> Node:
    """A vector of indices, axes or sizes."""
    return ops.constant(np.array(values, np.int64))


def integer(value: int) -> Node:
    """A single index, axis or size."""
    return ops.constant(np.int64(value))


def add_bias(x: Node, bias: Float32Array, constants: Constants) -> Node:
    """Add one number to each channel of B x C x H x W."""
    return ops.add(x, constants.exact(bias.reshape(1, -1, 1, 1)))


def convolution(
    x: Node,
    weight: StoredArray,
    bias: Float32Array,
    constants: Constants,
    *,
    stride: int = 1,
    weight_format: WeightFormat | None = None,
) -> Node:
    """An ordinary convolution, out x in x k x k, that keeps the size but for its stride."""
    border = [weight.shape[-1] // 2] * 2
    y = ops.convolution(x, constants.matrix(weight, weight_format), [stride] * 2, border, border, [1, 1])
    return add_bias(y, bias, constants)


def depthwise(x: Node, weight: Float32Array, bias: Float32Array, constants: Constants, *, stride: int = 1) -> Node:
    """A convolution of each channel on its own, C x 1 x k x k."""
    channels, _, height, width = weight.shape
    border = [height // 2] * 2
    kernel = constants.weight(weight.reshape(channels, 1, 1, height, width))
    y = ops.group_convolution(x, kernel, [stride] * 2, border, border, [1, 1])
    return add_bias(y, bias, constants)


def multiplied_depthwise(
    x: Node, weight: Float32Array, bias: Float32Array, constants: Constants, *, multiplier: int, stride: int = 1
) -> Node:
    """A depthwise convolution with `multiplier` outputs for each channel, as so many plain ones side by side.

    The engine has no fast kernel for the whole. The outputs' order is that of `encoder_layers.depthwise_order`.
    """
    parts = [
        depthwise(x, weight[part::multiplier], bias[part::multiplier], constants, stride=stride)
        for part in range(multiplier)
    ]
    return parts[0] if multiplier == 1 else ops.concat(parts, 1)


def linear(
    x: Node,
    weight: StoredArray,
    bias: Float32Array | None,
    constants: Constants,
    *,
    weight_format: WeightFormat | None = None,
) -> Node:
    """Multiply the last axis by out x in, and add a bias where there is one."""
    y = ops.matmul(x, constants.matrix(weight, weight_format), False, True)
    return y if bias is None else ops.add(y, constants.exact(bias))


def rounded(x: Node, largest: float, constants: Constants) -> Node:
    """Round to 256 steps around zero, up to +-`largest`: what reads it computes in eight bits where its weights do."""
    low, high = (constants.exact(np.array(value, np.float32)) for value in (-largest * 128 / 127, largest))
    return ops.fake_quantize(x, low, high, low, high, 256)


def rounded_rows(x: Node, constants: Constants) -> tuple[Node, Node]:
    """Round the last axis to whole numbers of eight bits; returns these, and a scale for each row, which gives x back.

    The scale is found while computing, so that nothing has to be measured before. A matrix product of the numbers
    computes in eight bits where its weights do.
    """
    largest = constants.exact(np.array([WHOLE_RANGE], np.float32))
    reach = ops.maximum(
        ops.reduce_max(ops.absolute(x), integers(-1), True), constants.exact(np.array([SMALLEST_REACH], np.float32))
    )
    scale = ops.divide(reach, largest)
    return rounded(ops.divide(x, scale), WHOLE_RANGE, constants), scale


def gelu(x: Node) -> Node:
    """The exact GELU, no slower here than its approximations."""
    return ops.gelu(x, "erf")


def rms_norm(x: Node, weight: Float32Array, epsilon: float, constants: Constants) -> Node:
    """Scale the last axis to a root mean square of one, then by `weight`; fused into one node."""
    square = ops.power(x, constants.exact(np.array([2.0], np.float32)))
    mean = ops.reduce_mean(square, integers(-1), True)
    root = ops.sqrt(ops.add(mean, constants.exact(np.array([epsilon], np.float32))))
    inverse = ops.divide(constants.exact(np.array([1.0], np.float32)), root)
    return ops.multiply(ops.multiply(x, inverse), constants.exact(weight))


def rotate(heads: Node, cosine: Node, sine: Node, *, head_dim: int, constants: Constants) -> Node:
    """Turn B x heads x T x head_dim by rotary angles; fused into one node, if the axis is written as 3 and not -1."""
    half = head_dim // 2
    first, second = ops.variadic_split(heads, integer(3), integers(half, half)).outputs()
    turned = ops.concat([ops.multiply(second, constants.exact(np.array([-1.0], np.float32))), first], -1)
    return ops.add(ops.multiply(heads, cosine), ops.multiply(turned, sine))
