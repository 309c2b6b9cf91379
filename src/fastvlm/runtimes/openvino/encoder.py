"""FastViTHD and the projector as OpenVINO graphs: pixels in, visual tokens out (paper section 3.2, appendix B).

Built from the fused form. BatchNorm, layer scales and the weights of LayerNorm are folded into the nearest
convolution or matrix, which changes no more than the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import openvino as ov
from openvino import opset15 as ops

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import Weights
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.runtimes.encoder_layers import EncoderLayers, reach_of
from fastvlm.runtimes.openvino.graph import (
    Constants,
    Node,
    add_bias,
    convolution,
    depthwise,
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
        self._config, self._precision, self._ranges = config, precision, ranges
        self._layers = EncoderLayers(config, weights)
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
        first, second = self._layers.projector()
        tokens = linear(gelu(linear(features, *first, self._constants)), *second, self._constants)
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
            x = self._feed_forward(x, block, is_attention=is_attention)
        return x

    def _patch_embedding(self, x: Node, name: str, multiplier: int) -> Node:
        x = self._multiplied(x, f"{name}.spatial.fused", multiplier, stride=2)
        return gelu(self._pointwise(gelu(x), *self._layers.patch_pointwise(name, multiplier), f"{name}.pointwise"))

    def _multiplied(self, x: Node, name: str, multiplier: int, *, stride: int = 1) -> Node:
        kernel = self._layers.kernel(name)
        return multiplied_depthwise(x, *kernel, self._constants, multiplier=multiplier, stride=stride)

    def _feed_forward(self, x: Node, block: str, *, is_attention: bool) -> Node:
        name = f"{block}.feed_forward"
        y = depthwise(x, *self._layers.feed_forward_spatial(name), self._constants)
        y = gelu(self._pointwise(y, *self._layers.kernel(f"{name}.expand"), f"{name}.expand"))
        contract = self._layers.contract(block, is_attention=is_attention)
        return ops.add(x, self._pointwise(y, *contract, f"{name}.contract"))

    def _attention(self, x: Node, name: str) -> Node:
        query_key_value = self._layers.query_key_value(name)
        head_dim = self._config.head_dim
        num_heads = query_key_value.weight.shape[1] // head_dim
        # Convolutions have the channels innermost inside the engine, so this moves nothing.
        positions = ops.transpose(x, integers(0, 2, 3, 1))
        normed = ops.mvn(positions, integers(3), True, EncoderLayers.norm_epsilon, "inside_sqrt")
        mixed = self._linear(normed, *query_key_value, f"{name}.attention.qkv")
        # One transposition for all three would give wrong numbers where there are as many positions as heads.
        query, key, value = (
            ops.transpose(ops.reshape(part, integers(0, -1, num_heads, head_dim), True), integers(0, 2, 1, 3))
            for part in ops.split(mixed, integer(3), 3).outputs()
        )
        mixed = ops.scaled_dot_product_attention(query, key, value, causal=False)
        mixed = ops.reshape(ops.transpose(mixed, integers(0, 2, 1, 3)), ops.shape_of(positions), False)
        mixed = self._linear(mixed, *self._layers.attention_output(name), f"{name}.attention.output")
        return ops.add(x, ops.transpose(mixed, integers(0, 3, 1, 2)))

    def _expansion(self, x: Node) -> Node:
        """The widened map, its channels in the order of `depthwise_order`."""
        x = self._multiplied(x, "expansion.conv.fused", int(self._config.expansion_ratio))
        pooled = ops.reduce_mean(x, integers(2, 3), True)
        pooled = ops.relu(convolution(pooled, *self._layers.squeeze(), self._constants))
        share = ops.sigmoid(convolution(pooled, *self._layers.excite(), self._constants))
        return gelu(ops.multiply(x, share))

    def _pooled(self, maps: Sequence[Node]) -> list[Node]:
        """Maps of earlier stages at the last one's size: the i-th from the end is 2**i times as large."""
        pooled = []
        for index, features in enumerate(maps):
            stride = 2 ** (len(maps) - index)
            if self._config.multi_scale == "average":
                pooled.append(ops.avg_pool(features, [stride] * 2, [0, 0], [0, 0], [stride] * 2, True))
                continue
            weight, bias = self._layers.kernel(f"multi_scale.pools.{index}")
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
        return rounded(x, reach_of(name, self._ranges), self._constants)

    def _convolution(self, x: Node, name: str, *, stride: int = 1) -> Node:
        weight, bias = self._layers.kernel(name)
        return convolution(x, weight, bias, self._constants, stride=stride)

    def _depthwise(self, x: Node, name: str, *, stride: int = 1) -> Node:
        weight, bias = self._layers.kernel(name)
        return depthwise(x, weight, bias, self._constants, stride=stride)
