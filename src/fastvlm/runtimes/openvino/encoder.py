"""FastViTHD and the projector as OpenVINO graphs: pixels in, visual tokens out (paper section 3.2, appendix B).

Built from the fused form. BatchNorm, layer scales and the weights of LayerNorm are folded into the nearest
convolution or matrix, which changes no more than the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openvino as ov
from openvino import opset15 as ops

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import Weights
from fastvlm.errors import CheckpointError
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.runtimes.openvino.graph import (
    Constants,
    Node,
    add_bias,
    convolution,
    depthwise,
    depthwise_order,
    gelu,
    integer,
    integers,
    linear,
    multiplied_depthwise,
    rounded,
)
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.runtimes.quantization import WHOLE_RANGE

FEATURES = "features"
"""Name of the output that the projector takes."""

_NORM_EPSILON = 1e-5


class EncoderGraph:
    """Builds graphs of one encoder, in its fused form, for pictures of given sizes, and of its projector.

    Between the two, features stand in an order of channels that is the engine's own.
    ranges: by name of the layer, how far from zero the inputs of 1 x 1 convolutions and matrices of the stages reach;
    with them, these layers compute in eight bits. Stem and projector, whose errors are the largest, stay as they are.
    largest_weight: see `quantization`.
    """

    def __init__(
        self,
        config: FastViTHDConfig,
        weights: Weights,
        *,
        precision: str,
        ranges: Mapping[str, float] | None = None,
        largest_weight: int = WHOLE_RANGE,
    ) -> None:
        self._config, self._weights, self._precision, self._ranges = config, weights, precision, ranges
        self._largest_weight = largest_weight
        self._weight_format: WeightFormat | None = None if ranges is None else "int8"

    def build(self, *, num_tiles: int, height_px: int, width_px: int, with_reaches: bool = False) -> ov.Model:
        """Map float32 pixels, N x 3 x H x W, to features, N x (H/64 * W/64) x channels; -1 is any size.

        with_reaches: there is one more output for each layer that can have a range, the largest absolute value of its
        input, by its name.
        """
        self._constants = Constants(self._precision, largest=self._largest_weight)
        self._reaches: list[Node] | None = [] if with_reaches else None
        pixels = ops.parameter([num_tiles, 3, height_px, width_px], ov.Type.f32, name="pixels")
        x = self._stem(pixels)
        maps = []
        for index in range(len(self._config.depths)):
            x = self._stage(x, index)
            maps.append(x)
        x = self._expansion(x)
        if self._config.multi_scale != "none":
            x = ops.concat([x, *self._pooled(maps[1:-1])], 1)
        features = ops.reshape(ops.transpose(x, integers(0, 2, 3, 1)), integers(0, -1, self._config.output_width), True)
        outputs = [ops.result(features, name=FEATURES), *(self._reaches or ())]
        model = ov.Model(outputs, [pixels], "encoder")
        # The arrays behind the constants live as long as the graph does, and no longer.
        model.constants = self._constants
        del self._constants
        return model

    def build_projector(self) -> ov.Model:
        """Map features, N x positions x channels, to visual tokens, N x positions x decoder width."""
        self._constants = Constants(self._precision)
        features = ops.parameter([-1, -1, self._config.output_width], ov.Type.f32, name="features")
        first, second = (f"projector.linear_{number}" for number in (1, 2))
        own_order = self._weights.exact(f"{first}.weight")[:, self._order()]
        hidden = gelu(linear(features, own_order, self._weights.exact(f"{first}.bias"), self._constants))
        weight = self._weights.stored(f"{second}.weight")
        tokens = linear(hidden, weight, self._weights.exact(f"{second}.bias"), self._constants)
        model = ov.Model([ops.result(tokens, name="visual_tokens")], [features], "projector")
        model.constants = self._constants
        del self._constants
        return model

    def _stem(self, x: Node) -> Node:
        x = gelu(self._convolution(x, "stem.blocks.0.fused", stride=2))
        x = gelu(self._depthwise(x, "stem.blocks.1.fused", stride=2))
        return gelu(self._convolution(x, "stem.blocks.2.fused"))

    def _stage(self, x: Node, index: int) -> Node:
        name = f"stages.{index}"
        if index:
            multiplier = self._config.widths[index] // self._config.widths[index - 1]
            x = self._patch_embedding(x, f"{name}.patch_embedding", multiplier)
        is_attention = self._config.token_mixers[index] == "attention"
        if is_attention:
            x = self._depthwise(x, f"{name}.position_encoding.fused")
        for number in range(self._config.depths[index]):
            block = f"{name}.blocks.{number}"
            x = self._attention(x, block) if is_attention else self._depthwise(x, f"{block}.token_mixer.fused")
            scale = "feed_forward_scale" if is_attention else "layer_scale"
            x = self._feed_forward(x, f"{block}.feed_forward", self._exact(f"{block}.{scale}").ravel())
        return x

    def _patch_embedding(self, x: Node, name: str, multiplier: int) -> Node:
        weight, bias = self._kernel(f"{name}.spatial.fused")
        x, order = multiplied_depthwise(x, weight, bias, self._constants, multiplier=multiplier, stride=2)
        weight, bias = self._kernel(f"{name}.pointwise.fused")
        return gelu(self._pointwise(gelu(x), weight[:, order], bias, f"{name}.pointwise"))

    def _feed_forward(self, x: Node, name: str, scale: Float32Array) -> Node:
        weight, bias = self._spatial(f"{name}.spatial")
        y = depthwise(x, weight, bias, self._constants)
        y = gelu(self._pointwise(y, *self._kernel(f"{name}.expand"), f"{name}.expand"))
        weight, bias = self._kernel(f"{name}.contract")
        y = self._pointwise(y, weight * scale[:, None, None, None], bias * scale, f"{name}.contract")
        return ops.add(x, y)

    def _spatial(self, name: str) -> tuple[Float32Array, Float32Array]:
        """The 7 x 7 convolution of ConvFFN with its BatchNorm folded in."""
        gain, shift, mean, variance = (
            self._exact(f"{name}.norm.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + _NORM_EPSILON)
        weight = self._exact(f"{name}.conv.weight") * scale[:, None, None, None]
        return weight.astype(np.float32), (shift - mean * scale).astype(np.float32)

    def _attention(self, x: Node, name: str) -> Node:
        gain, shift = self._exact(f"{name}.norm.weight"), self._exact(f"{name}.norm.bias")
        qkv = self._exact(f"{name}.attention.qkv.weight")
        scale = self._exact(f"{name}.attention_scale").ravel()
        output, output_bias = self._kernel(f"{name}.attention.output")
        head_dim, num_heads = self._config.head_dim, len(gain) // self._config.head_dim
        # Convolutions have the channels innermost inside the engine, so this moves nothing.
        positions = ops.transpose(x, integers(0, 2, 3, 1))
        normed = ops.mvn(positions, integers(3), True, _NORM_EPSILON, "inside_sqrt")
        mixed = self._linear(normed, qkv * gain, qkv @ shift, f"{name}.attention.qkv")
        # One transposition for all three would give wrong numbers where there are as many positions as heads.
        query, key, value = (
            ops.transpose(ops.reshape(part, integers(0, -1, num_heads, head_dim), True), integers(0, 2, 1, 3))
            for part in ops.split(mixed, integer(3), 3).outputs()
        )
        mixed = ops.scaled_dot_product_attention(query, key, value, causal=False)
        mixed = ops.reshape(ops.transpose(mixed, integers(0, 2, 1, 3)), ops.shape_of(positions), False)
        mixed = self._linear(mixed, output * scale[:, None], output_bias * scale, f"{name}.attention.output")
        return ops.add(x, ops.transpose(mixed, integers(0, 3, 1, 2)))

    def _order(self) -> list[int]:
        """Which channel of the released order each channel of the features is."""
        num_expanded = int(self._config.widths[-1] * self._config.expansion_ratio)
        order = depthwise_order(num_expanded, multiplier=num_expanded // self._config.widths[-1])
        return [*order, *range(num_expanded, self._config.output_width)]

    def _expansion(self, x: Node) -> Node:
        """The widened map, its channels in the order of `depthwise_order`."""
        weight, bias = self._kernel("expansion.conv.fused")
        multiplier = len(bias) // self._config.widths[-1]
        x, order = multiplied_depthwise(x, weight, bias, self._constants, multiplier=multiplier)
        pooled = ops.reduce_mean(x, integers(2, 3), True)
        weight, bias = self._kernel("expansion.squeeze_excite.reduce")
        pooled = ops.relu(convolution(pooled, weight[:, order], bias, self._constants))
        weight, bias = self._kernel("expansion.squeeze_excite.expand")
        share = ops.sigmoid(convolution(pooled, weight[order], bias[order], self._constants))
        return gelu(ops.multiply(x, share))

    def _pooled(self, maps: Sequence[Node]) -> list[Node]:
        """Maps of earlier stages at the last one's size: the i-th from the end is 2**i times as large."""
        pooled = []
        for index, features in enumerate(maps):
            stride = 2 ** (len(maps) - index)
            if self._config.multi_scale == "average":
                pooled.append(ops.avg_pool(features, [stride] * 2, [0, 0], [0, 0], [stride] * 2, True))
                continue
            weight, bias = self._kernel(f"multi_scale.pools.{index}")
            kernel = self._constants.weight(weight[:, None])
            y = ops.group_convolution(features, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1])
            pooled.append(add_bias(y, bias, self._constants))
        return pooled

    def _pointwise(self, x: Node, weight: Float32Array, bias: Float32Array, name: str) -> Node:
        return convolution(self._rounded(x, name), weight, bias, self._constants, weight_format=self._weight_format)

    def _linear(self, x: Node, weight: Float32Array, bias: Float32Array, name: str) -> Node:
        return linear(self._rounded(x, name), weight, bias, self._constants, weight_format=self._weight_format)

    def _rounded(self, x: Node, name: str) -> Node:
        """The input of a layer: as it is, or in eight bits."""
        if self._reaches is not None:
            reach = ops.reduce_max(ops.absolute(ops.reshape(x, integers(-1), False)), integers(0), False)
            self._reaches.append(ops.result(reach, name=name))
        if self._ranges is None:
            return x
        if name not in self._ranges:
            raise CheckpointError(
                f"Expected ranges of the layers of this encoder, found none of {name}. Calibrate this checkpoint again."
            )
        return rounded(x, self._ranges[name], self._constants)

    def _convolution(self, x: Node, name: str, *, stride: int = 1) -> Node:
        weight, bias = self._kernel(name)
        return convolution(x, weight, bias, self._constants, stride=stride)

    def _depthwise(self, x: Node, name: str, *, stride: int = 1) -> Node:
        weight, bias = self._kernel(name)
        return depthwise(x, weight, bias, self._constants, stride=stride)

    def _kernel(self, name: str) -> tuple[Float32Array, Float32Array]:
        return self._exact(f"{name}.weight"), self._exact(f"{name}.bias")

    def _exact(self, name: str) -> Float32Array:
        return self._weights.exact(f"vision.{name}")
