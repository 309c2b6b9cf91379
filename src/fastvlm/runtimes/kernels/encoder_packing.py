"""An encoder's and a projector's weights for the kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.runtimes.encoder_layers import Affine, EncoderLayers, reach_of
from fastvlm.runtimes.kernels.packing import LARGEST_HEAD, PANEL, Matrix, Packing, Small

_VECTOR = 16


def suits(config: FastViTHDConfig) -> bool:
    """Whether the kernels can compute an encoder of this shape: one scale, and channels that fill vectors."""
    widths = config.widths
    hidden = [width * config.feed_forward_ratio for width in widths]
    ends = [widths[-1] * config.expansion_ratio, int(widths[-1] * config.expansion_ratio) * config.squeeze_ratio]
    is_multiple = all(wide % narrow == 0 for narrow, wide in pairwise(widths))
    return (
        config.form == "fused"
        and config.multi_scale == "none"
        and is_multiple
        and all(size % _VECTOR == 0 for size in (*widths, *hidden, *ends))
        and config.expansion_ratio == int(config.expansion_ratio)
        and config.head_dim % _VECTOR == 0
        and config.head_dim <= LARGEST_HEAD
        and all(
            width % config.head_dim == 0
            for width, mixer in zip(widths, config.token_mixers, strict=True)
            if mixer == "attention"
        )
    )


def encoder_packing(layers: EncoderLayers, decoder_width: int, ranges: Mapping[str, float] | None) -> Packing:
    """What is packed of an encoder that `suits` and of its projector.

    ranges: how far from zero the inputs of layers of 1 x 1 reach; with them these have eight bits, all else bfloat16.
    Raises CheckpointError where the range of a layer is missing.
    """
    return Packing(list(_parts(layers, decoder_width, ranges)))


def _parts(layers: EncoderLayers, decoder_width: int, ranges: Mapping[str, float] | None) -> Iterator[Small | Matrix]:
    config = layers.config
    width = config.widths[0]
    yield Small("stem.weights", 27 * width, lambda: _taps(layers.kernel("stem.blocks.0.fused").weight))
    yield Small("stem.bias", width, lambda: layers.kernel("stem.blocks.0.fused").bias)
    yield from _depthwise("stem.spatial", partial(layers.kernel, "stem.blocks.1.fused"), width, size=3)
    yield from _pointwise("stem.pointwise", partial(layers.kernel, "stem.blocks.2.fused"), width, width)
    for index, width in enumerate(config.widths):
        name = f"stages.{index}"
        if index:
            previous = config.widths[index - 1]
            multiplier = width // previous
            patch = f"{name}.patch_embedding"
            spatial = partial(layers.kernel, f"{patch}.spatial.fused")
            yield from _depthwise(f"{patch}.spatial", spatial, previous, size=7, multiplier=multiplier)
            pointwise = partial(layers.patch_pointwise, patch, multiplier)
            yield from _pointwise(f"{patch}.pointwise", pointwise, width, width, ranges)
        is_attention = config.token_mixers[index] == "attention"
        if is_attention:
            position = partial(layers.kernel, f"{name}.position_encoding.fused")
            yield from _depthwise(f"{name}.position_encoding", position, width, size=7)
        for number in range(config.depths[index]):
            yield from _block(layers, f"{name}.blocks.{number}", width, ranges, is_attention=is_attention)
    expanded = int(config.widths[-1] * config.expansion_ratio)
    squeezed = int(expanded * config.squeeze_ratio)
    yield from _depthwise(
        "expansion", partial(layers.kernel, "expansion.conv.fused"), width, size=3, multiplier=expanded // width
    )
    yield from _pointwise("reduce", layers.squeeze, squeezed, expanded)
    yield from _pointwise("restore", layers.excite, expanded, squeezed)
    yield from _pointwise("first", lambda: layers.projector()[0], decoder_width, expanded)
    yield from _pointwise("second", lambda: layers.projector()[1], decoder_width, decoder_width)


def _block(
    layers: EncoderLayers, block: str, width: int, ranges: Mapping[str, float] | None, *, is_attention: bool
) -> Iterator[Small | Matrix]:
    if is_attention:
        query_key_value, output = partial(layers.query_key_value, block), partial(layers.attention_output, block)
        yield from _pointwise(f"{block}.attention.qkv", query_key_value, 3 * width, width, ranges)
        yield from _pointwise(f"{block}.attention.output", output, width, width, ranges)
    else:
        yield from _depthwise(
            f"{block}.token_mixer", partial(layers.kernel, f"{block}.token_mixer.fused"), width, size=3
        )
    name = f"{block}.feed_forward"
    hidden = int(width * layers.config.feed_forward_ratio)
    yield from _depthwise(f"{name}.spatial", partial(layers.feed_forward_spatial, name), width, size=7)
    yield from _pointwise(f"{name}.expand", partial(layers.kernel, f"{name}.expand"), hidden, width, ranges)
    contract = partial(layers.contract, block, is_attention=is_attention)
    yield from _pointwise(f"{name}.contract", contract, width, hidden, ranges)


def _depthwise(
    name: str, make: Callable[[], Affine], num_in: int, *, size: int, multiplier: int = 1
) -> Iterator[Small]:
    yield Small(f"{name}.weights", multiplier * size * size * num_in, lambda: _taps_of_parts(make().weight, multiplier))
    yield Small(f"{name}.bias", multiplier * num_in, lambda: make().bias.reshape(num_in, multiplier).T)


def _pointwise(
    name: str, make: Callable[[], Affine], num_out: int, num_in: int, ranges: Mapping[str, float] | None = None
) -> Iterator[Small | Matrix]:
    reach = None if ranges is None else reach_of(name, ranges)
    num_bits = 16 if reach is None else 8
    yield Matrix(name, num_out, num_in, num_bits, lambda: make().weight.reshape(num_out, num_in), reach)
    yield Small(f"{name}.bias", math.ceil(num_out / PANEL) * PANEL, lambda: make().bias)


def _taps(weight: Float32Array) -> Float32Array:
    """Out x colours x rows x columns to rows x columns x colours x out."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


def _taps_of_parts(weight: Float32Array, multiplier: int) -> Float32Array:
    """Outputs x 1 x rows x columns, `multiplier` outputs for each channel, to multiplier x planes x taps x 16."""
    num_channels = len(weight) // multiplier
    taps = weight.reshape(num_channels // _VECTOR, _VECTOR, multiplier, -1)
    return np.ascontiguousarray(taps.transpose(2, 0, 3, 1))
