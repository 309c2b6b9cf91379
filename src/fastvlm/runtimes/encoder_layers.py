"""FastViTHD's layers as engines compute them: what only scales or shifts is folded into what it stands beside.

From the fused form. It changes no more than the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import Weights
from fastvlm.errors import CheckpointError
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.runtimes.quantization import SMALLEST_REACH

_NORM_EPSILON = 1e-5
"""Of the BatchNorms and LayerNorms of the encoder."""


class Affine(NamedTuple):
    """A convolution, out x in x k x k, or a matrix, out x in; and what is added to its outputs."""

    weight: Float32Array
    bias: Float32Array


class EncoderLayers:
    """The layers of an encoder by the names of its parts, BatchNorm, LayerNorm's weights and layer scales folded in.

    A depthwise convolution with several outputs for each channel is computed as so many plain ones, side by side; what
    reads them takes its inputs in that order, `order`.
    """

    norm_epsilon = _NORM_EPSILON

    def __init__(self, config: FastViTHDConfig, weights: Weights) -> None:
        self.config, self._weights = config, weights

    def kernel(self, name: str) -> Affine:
        """A convolution as it is stored."""
        return Affine(self._stored(f"{name}.weight"), self._stored(f"{name}.bias"))

    def patch_pointwise(self, name: str, multiplier: int) -> Affine:
        """The 1 x 1 convolution of a patch embedding, behind its depthwise one."""
        weight, bias = self.kernel(f"{name}.pointwise.fused")
        return Affine(weight[:, depthwise_order(weight.shape[1], multiplier=multiplier)], bias)

    def feed_forward_spatial(self, name: str) -> Affine:
        """The 7 x 7 convolution of a ConvFFN with its BatchNorm."""
        gain, shift, mean, variance = (
            self._stored(f"{name}.spatial.norm.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + _NORM_EPSILON)
        weight = self._stored(f"{name}.spatial.conv.weight") * scale[:, None, None, None]
        return Affine(weight.astype(np.float32), (shift - mean * scale).astype(np.float32))

    def contract(self, block: str, *, is_attention: bool) -> Affine:
        """The last 1 x 1 convolution of a ConvFFN with the layer scale behind it."""
        scale = self._stored(f"{block}.{'feed_forward_scale' if is_attention else 'layer_scale'}").ravel()
        weight, bias = self.kernel(f"{block}.feed_forward.contract")
        return Affine(weight * scale[:, None, None, None], bias * scale)

    def query_key_value(self, block: str) -> Affine:
        """Attention's first matrix, on a LayerNorm without weights."""
        gain, shift = self._stored(f"{block}.norm.weight"), self._stored(f"{block}.norm.bias")
        weight = self._stored(f"{block}.attention.qkv.weight")
        return Affine(weight * gain, weight @ shift)

    def attention_output(self, block: str) -> Affine:
        """Attention's last matrix with the layer scale behind it."""
        scale = self._stored(f"{block}.attention_scale").ravel()
        weight, bias = self.kernel(f"{block}.attention.output")
        return Affine(weight * scale[:, None], bias * scale)

    def squeeze(self) -> Affine:
        """Squeeze-excite's first layer, from the expansion in its order."""
        weight, bias = self.kernel("expansion.squeeze_excite.reduce")
        return Affine(weight[:, self._expanded_order()], bias)

    def excite(self) -> Affine:
        """Its second one, to the same order."""
        weight, bias = self.kernel("expansion.squeeze_excite.expand")
        order = self._expanded_order()
        return Affine(weight[order], bias[order])

    def projector(self) -> tuple[Affine, Affine]:
        """Both matrices of the projector, the first of which reads the features in their order."""
        first, second = (
            Affine(*(self._weights.finite(f"projector.linear_{number}.{part}") for part in ("weight", "bias")))
            for number in (1, 2)
        )
        return Affine(first.weight[:, self.order()], first.bias), second

    def order(self) -> list[int]:
        """Which channel of the released order each channel of the features is."""
        order = self._expanded_order()
        return [*order, *range(len(order), self.config.output_width)]

    def _expanded_order(self) -> list[int]:
        num_expanded = int(self.config.widths[-1] * self.config.expansion_ratio)
        return depthwise_order(num_expanded, multiplier=num_expanded // self.config.widths[-1])

    def _stored(self, name: str) -> Float32Array:
        return self._weights.finite(f"vision.{name}")


def reach_of(name: str, ranges: Mapping[str, float]) -> float:
    """How far from zero the inputs of a layer reach, above 0. Raises CheckpointError where that was not measured."""
    if name not in ranges:
        raise CheckpointError(
            f"Expected ranges of the layers of this encoder, found none of {name}. Calibrate this checkpoint again."
        )
    return max(ranges[name], SMALLEST_REACH)


def depthwise_order(num_channels: int, *, multiplier: int) -> list[int]:
    """The number that each output of plain depthwise convolutions side by side has in the whole one."""
    return [channel for part in range(multiplier) for channel in range(part, num_channels, multiplier)]
