"""A decoder's weights for the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from fastvlm.batches import Float32Array
from fastvlm.checkpoints.arrays import StoredArray, Weights
from fastvlm.models.language.config import DecoderConfig
from fastvlm.runtimes.kernels.packing import LARGEST_HEAD, Matrix, Packing, Small, below, in_turn
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.runtimes.quantization import GROUP_SIZE

NUM_BITS: dict[WeightFormat | None, int] = {None: 16, "int8": 8, "int4": 4}
"""Bits of a matrix; None is bfloat16."""


def suits(config: DecoderConfig) -> bool:
    """Whether the kernels can read a decoder of this shape: inputs come in groups, and numbers of a head in vectors."""
    inputs = (config.width, config.feed_forward_width, config.num_heads * config.head_dim)
    return (
        config.num_layers > 0
        and config.num_key_value_heads > 0
        and config.num_heads % config.num_key_value_heads == 0
        and all(size > 0 and size % GROUP_SIZE == 0 for size in inputs)
        and config.head_dim % 32 == 0
        and config.head_dim <= LARGEST_HEAD
    )


def decoder_packing(config: DecoderConfig, weights: Weights, weight_format: WeightFormat | None) -> Packing:
    """What is packed of a decoder that `suits`. The head never has fewer than eight bits, as every score passes it."""
    return Packing(list(_parts(config, weights, NUM_BITS[weight_format])))


def _parts(config: DecoderConfig, weights: Weights, num_bits: int) -> Iterator[Small | Matrix]:
    width, hidden = config.width, config.feed_forward_width
    num_mixed = (config.num_heads + 2 * config.num_key_value_heads) * config.head_dim
    for layer in range(config.num_layers):
        prefix = f"decoder.layers.{layer}"
        for name in ("attention_norm", "feed_forward_norm"):
            yield Small(f"{layer}.{name}", width, partial(weights.finite, f"{prefix}.{name}.weight"))
        if config.has_attention_bias:
            yield Small(f"{layer}.mixed_bias", num_mixed, partial(_mixed_bias, weights, prefix))
        yield Matrix(f"{layer}.mixed", num_mixed, width, num_bits, partial(_mixed, weights, prefix))
        yield Matrix(
            f"{layer}.output", width, config.num_heads * config.head_dim, num_bits,
            partial(weights.stored, f"{prefix}.attention.output.weight"),
        )  # fmt: skip
        yield Matrix(f"{layer}.gate_and_up", 2 * hidden, width, num_bits, partial(_gate_and_up, weights, prefix))
        yield Matrix(
            f"{layer}.down", width, hidden, num_bits, partial(weights.stored, f"{prefix}.feed_forward.down.weight")
        )
    yield Small("norm", width, partial(weights.finite, "decoder.norm.weight"))
    table = "embed_tokens" if config.has_tied_head else "head"
    head = partial(weights.stored, f"decoder.{table}.weight")
    yield Matrix("head", config.vocabulary_size, width, max(8, num_bits), head)


def _mixed_bias(weights: Weights, prefix: str) -> Float32Array:
    return np.concatenate([weights.finite(f"{prefix}.attention.{part}.bias") for part in ("query", "key", "value")])


def _mixed(weights: Weights, prefix: str) -> StoredArray:
    return below(*(weights.stored(f"{prefix}.attention.{part}.weight") for part in ("query", "key", "value")))


def _gate_and_up(weights: Weights, prefix: str) -> StoredArray:
    return in_turn(*(weights.stored(f"{prefix}.feed_forward.{part}.weight") for part in ("gate", "up")))
