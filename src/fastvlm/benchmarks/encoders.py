"""Other vision encoders by shape, with random weights, in the same engine: the paper's figure 1 and table 10, here.

Like for like: every encoder is an OpenVINO graph of the same pieces and in the same precision. As shipped: as
transformers runs it. Random weights take as long as trained ones. What is left out of the others is theirs to gain:
CLIP's norm before the first layer, and ConvNeXt's norms between stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from fastvlm.errors import GenerationError
from fastvlm.runtimes.openvino.graph import Constants, Node, depthwise, gelu, integers, linear

_NORM_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class ViTShape:
    """A vision transformer without a class token's use downstream: `has_class_token` tells whether it computes one."""

    width: int
    num_layers: int
    num_heads: int
    feed_forward_width: int
    patch_px: int = 14
    has_class_token: bool = False

    def num_tokens(self, size_px: int) -> int:
        """Visual tokens of a square picture."""
        return (size_px // self.patch_px) ** 2


@dataclass(frozen=True, kw_only=True)
class ConvNeXtShape:
    """A ConvNeXt: blocks and channels of each stage; the first is at a quarter of the sides."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]

    def num_tokens(self, size_px: int) -> int:
        """Visual tokens of a square picture: positions of the last stage."""
        stride_px: int = 2 << len(self.depths)
        return (size_px // stride_px) ** 2


EncoderShape = ViTShape | ConvNeXtShape

OTHERS: dict[str, EncoderShape] = {
    "vit-l-14": ViTShape(width=1024, num_layers=24, num_heads=16, feed_forward_width=4096, has_class_token=True),
    "siglip-so400m-14": ViTShape(width=1152, num_layers=27, num_heads=16, feed_forward_width=4304),
    "convnext-l": ConvNeXtShape(depths=(3, 3, 27, 3), widths=(192, 384, 768, 1536)),
    "convllava": ConvNeXtShape(depths=(3, 3, 27, 3, 6), widths=(192, 384, 768, 1536, 3072)),
}
"""Encoders of LLaVA-1.5, of LLaVA-OneVision, and ConvNeXt-L without and with ConvLLaVA's fifth stage."""


def other_shape(name: str) -> EncoderShape:
    """The shape of a name. Raises GenerationError for an unknown one."""
    if name not in OTHERS:
        raise GenerationError(f"Expected one of the encoders fastvithd, {', '.join(OTHERS)}, got {name!r}.")
    return OTHERS[name]


class RandomEncoder:
    """Builds the graph of a shape for square pictures of one size, and counts what it holds and computes.

    is_empty: only to be counted, without any numbers. num_parameters, macs: set once the graph is built;
    multiply-accumulates leave out norms and sums.
    """

    def __init__(self, shape: EncoderShape, *, size_px: int, precision: str, is_empty: bool = False) -> None:
        self._shape, self._size_px, self._is_empty = shape, size_px, is_empty
        self._constants = Constants(precision)
        self._generator = np.random.default_rng(0)
        self.num_parameters = 0
        self.macs = 0

    def build(self) -> ov.Model:
        """Map float32 pixels, 1 x 3 x H x W, to visual tokens, 1 x positions x channels."""
        pixels = ops.parameter([1, 3, self._size_px, self._size_px], ov.Type.f32, name="pixels")
        shape = self._shape
        tokens = self._vit(pixels, shape) if isinstance(shape, ViTShape) else self._convnext(pixels, shape)
        model = ov.Model([ops.result(tokens)], [pixels], "encoder")
        model.constants = self._constants
        return model

    def _vit(self, x: Node, shape: ViTShape) -> Node:
        x = self._convolution(x, 3, shape.width, kernel_px=shape.patch_px, stride=shape.patch_px)
        tokens = ops.reshape(ops.transpose(x, integers(0, 2, 3, 1)), integers(0, -1, shape.width), True)
        if shape.has_class_token:
            tokens = ops.concat([self._exact(1, 1, shape.width), tokens], 1)
        num_positions = shape.num_tokens(self._size_px) + shape.has_class_token
        tokens = ops.add(tokens, self._exact(1, num_positions, shape.width))
        for _ in range(shape.num_layers):
            tokens = ops.add(tokens, self._attention(self._norm(tokens, shape.width), shape, num_positions))
            hidden = gelu(self._linear(self._norm(tokens, shape.width), shape.width, shape.feed_forward_width))
            tokens = ops.add(tokens, self._linear(hidden, shape.feed_forward_width, shape.width))
        return tokens

    def _attention(self, x: Node, shape: ViTShape, num_positions: int) -> Node:
        heads = (0, -1, shape.num_heads, shape.width // shape.num_heads)
        query, key, value = (
            ops.transpose(
                ops.reshape(self._linear(x, shape.width, shape.width), integers(*heads), True), integers(0, 2, 1, 3)
            )
            for _ in range(3)
        )
        self.macs += 2 * num_positions**2 * shape.width
        mixed = ops.scaled_dot_product_attention(query, key, value, causal=False)
        mixed = ops.reshape(ops.transpose(mixed, integers(0, 2, 1, 3)), integers(0, -1, shape.width), True)
        return self._linear(mixed, shape.width, shape.width)

    def _convnext(self, x: Node, shape: ConvNeXtShape) -> Node:
        width = 3
        for stage, (depth, wider) in enumerate(zip(shape.depths, shape.widths, strict=True)):
            kernel_px = 2 if stage else 4
            x = self._convolution(x, width, wider, kernel_px=kernel_px, stride=kernel_px)
            width = wider
            for _ in range(depth):
                y = ops.transpose(self._depthwise(x, width), integers(0, 2, 3, 1))
                y = gelu(self._linear(self._norm(y, width), width, 4 * width))
                x = ops.add(x, ops.transpose(self._linear(y, 4 * width, width), integers(0, 3, 1, 2)))
        return ops.reshape(ops.transpose(x, integers(0, 2, 3, 1)), integers(0, -1, width), True)

    def _convolution(self, x: Node, num_in: int, num_out: int, *, kernel_px: int, stride: int) -> Node:
        weight = self._random(num_out, num_in, kernel_px, kernel_px)
        y = ops.convolution(x, self._constants.weight(weight), [stride] * 2, [0, 0], [0, 0], [1, 1])
        y = ops.add(y, self._constants.exact(self._random(num_out).reshape(1, -1, 1, 1)))
        self.macs += _num_elements(y) * num_in * kernel_px**2
        return y

    def _depthwise(self, x: Node, channels: int) -> Node:
        y = depthwise(x, self._random(channels, 1, 7, 7), self._random(channels), self._constants)
        self.macs += _num_elements(y) * 49
        return y

    def _linear(self, x: Node, num_in: int, num_out: int) -> Node:
        y = linear(x, self._random(num_out, num_in), self._random(num_out), self._constants)
        self.macs += _num_elements(y) * num_in
        return y

    def _norm(self, x: Node, width: int) -> Node:
        """LayerNorm over the last axis."""
        normed = ops.mvn(x, integers(-1), True, _NORM_EPSILON, "inside_sqrt")
        return ops.add(ops.multiply(normed, self._exact(width)), self._exact(width))

    def _exact(self, *shape: int) -> Node:
        return self._constants.exact(self._random(*shape))

    def _random(self, *shape: int) -> Any:
        """Values that keep activations near one: denormal numbers would take a hundred times as long."""
        self.num_parameters += int(np.prod(shape))
        if self._is_empty:
            return np.zeros(shape, np.float32)
        values = self._generator.standard_normal(shape, dtype=np.float32)
        scale = np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
        return values * np.float32(scale)


def _num_elements(node: Node) -> int:
    return int(np.prod(list(node.get_output_shape(0))))
