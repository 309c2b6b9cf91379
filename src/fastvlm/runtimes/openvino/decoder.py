"""The language model as OpenVINO graphs over embeddings, with its cache inside: Qwen2 and Llama.

Graphs of several forms, with states of the same names, so that keys and values pass from one to the other as they are.
In the form `fused` the engine recognises the cache and reads it in place: fast for a prompt, when nothing is held, and
for a few positions behind held ones; for many of these it would take them one by one. In the form `plain`, equal to it
in numbers, attention is made of matrix products, which is fast for these too. The form `rounded` is the plain one with
matrices of eight bits, whose inputs are rounded to eight bits as well, each position with a scale of its own: what a
matrix unit for such numbers (AMX) reads many positions fastest in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import openvino as ov
from openvino import opset15 as ops
from openvino.op import util as op_util

from fastvlm.checkpoints.arrays import Weights
from fastvlm.models.language.config import DecoderConfig
from fastvlm.runtimes.openvino.graph import Constants, Node, integer, integers, linear, rms_norm, rotate, rounded_rows
from fastvlm.runtimes.protocol import WeightFormat

DecoderForm = Literal["fused", "plain", "rounded"]

_MASKED = -65504.0


class DecoderGraph:
    """Builds a graph of a decoder, once. Inputs: embeddings B x T x width; positions B x T, rotary; is_word B x S, 1
    where a position of the cache and of the new ones is not padding; rows B, which row of the cache each row goes on
    (in the form `fused`). Output: logits of the last position, B x vocabulary. weight_format: bits of the matrices,
    None as they are stored, always 8 in the form `rounded`; the head never has fewer than 8. has_head: without it the
    output is what the head takes, hidden B x width, and the head is a graph of its own that several forms share."""

    def __init__(
        self,
        config: DecoderConfig,
        weights: Weights,
        *,
        precision: str,
        weight_format: WeightFormat | None = None,
        has_head: bool = True,
    ) -> None:
        self._config, self._weights, self._precision = config, weights, precision
        self._weight_format, self._has_head = weight_format, has_head

    def build(self, form: DecoderForm) -> ov.Model:
        """Build the graph of one form, for any number of rows and positions."""
        self._constants = Constants(self._precision)
        self._rounds_inputs = form == "rounded"
        self._matrix_format: WeightFormat | None = "int8" if self._rounds_inputs else self._weight_format
        config = self._config
        embeddings = ops.parameter([-1, -1, config.width], ov.Type.f32, name="embeddings")
        positions = ops.parameter([-1, -1], ov.Type.i64, name="positions")
        is_word = ops.parameter([-1, -1], ov.Type.i64, name="is_word")
        inputs = [embeddings, positions, is_word]
        self._rows: Node | None = None
        if form == "fused":
            self._rows = ops.parameter([-1], ov.Type.i32, name="rows")
            inputs.append(self._rows)
        sizes = ops.shape_of(embeddings, "i64")
        self._num_rows, num_new = (ops.gather(sizes, integers(axis), integer(0)) for axis in (0, 1))
        self._cosine, self._sine = self._angles(positions)
        self._mask = self._additive_mask(is_word, num_new)
        self._sinks: list[Node] = []
        x: Node = embeddings
        for layer in range(config.num_layers):
            x = self._layer(x, f"decoder.layers.{layer}", layer)
        x = ops.gather(x, integer(-1), integer(1))
        x = self._normed(x, "decoder.norm.weight")
        output = ops.result(self._head(x), name="logits") if self._has_head else ops.result(x, name="hidden")
        return self._model([output], self._sinks, inputs, f"decoder_{form}")

    def build_head(self) -> ov.Model:
        """Build the graph from hidden, B x width, to logits, B x vocabulary."""
        self._constants = Constants(self._precision)
        hidden = ops.parameter([-1, self._config.width], ov.Type.f32, name="hidden")
        return self._model([ops.result(self._head(hidden), name="logits")], [], [hidden], "head")

    def _model(self, outputs: list[Node], sinks: list[Node], inputs: list[Node], name: str) -> ov.Model:
        model = ov.Model(outputs, sinks, inputs, name)
        # The arrays behind the constants live as long as the graph does.
        model.constants = self._constants
        return model

    def _head(self, x: Node) -> Node:
        name = "decoder.embed_tokens.weight" if self._config.has_tied_head else "decoder.head.weight"
        # Every score passes through the head: it keeps eight bits where the others have four.
        weight_format: WeightFormat | None = None if self._weight_format is None else "int8"
        return linear(x, self._weights.stored(name), None, self._constants, weight_format=weight_format)

    def _angles(self, positions: Node) -> tuple[Node, Node]:
        """Cosines and sines, B x 1 x T x head_dim; the two halves of a head share their angles."""
        frequencies = self._config.rotary_frequencies()
        steps = ops.convert(ops.unsqueeze(positions, integers(1, 3)), "f32")
        angles = ops.multiply(steps, self._constants.exact(frequencies.reshape(1, 1, 1, -1)))
        angles = ops.concat([angles, angles], -1)
        return ops.cos(angles), ops.sin(angles)

    def _additive_mask(self, is_word: Node, num_new: Node) -> Node:
        """0 where new position i, which stands at S - T + i, may look, else very low: B x 1 x T x S."""
        num_all = ops.gather(ops.shape_of(is_word, "i64"), integers(1), integer(0))
        scalar = integers(0)
        end = ops.squeeze(num_all, scalar)
        columns = ops.unsqueeze(ops.range(integer(0), end, integer(1), "i64"), integers(0))
        start = ops.squeeze(ops.subtract(num_all, num_new), scalar)
        rows = ops.unsqueeze(ops.range(start, end, integer(1), "i64"), integers(1))
        is_earlier = ops.unsqueeze(ops.less_equal(columns, rows), integers(0, 1))
        allowed = ops.logical_and(is_earlier, ops.unsqueeze(ops.convert(is_word, "boolean"), integers(1, 2)))
        zero, low = (self._constants.exact(np.array(value, np.float32)) for value in (0.0, _MASKED))
        return ops.select(allowed, zero, low)

    def _layer(self, x: Node, name: str, layer: int) -> Node:
        normed = self._normed(x, f"{name}.attention_norm.weight")
        x = ops.add(x, self._attention(normed, f"{name}.attention", layer))
        gate, up = self._linears(
            self._normed(x, f"{name}.feed_forward_norm.weight"),
            [f"{name}.feed_forward.{part}" for part in ("gate", "up")],
        )
        (down,) = self._linears(ops.multiply(ops.swish(gate), up), [f"{name}.feed_forward.down"])
        return ops.add(x, down)

    def _attention(self, x: Node, name: str, layer: int) -> Node:
        config = self._config
        query, key, value = self._linears(
            x, [f"{name}.{part}" for part in ("query", "key", "value")], has_bias=config.has_attention_bias
        )
        query = self._rotated(self._heads(query, config.num_heads))
        key = self._rotated(self._heads(key, config.num_key_value_heads))
        key = self._cached(key, f"key.{layer}")
        value = self._cached(self._heads(value, config.num_key_value_heads), f"value.{layer}")
        mixed = ops.scaled_dot_product_attention(
            query, self._for_each_query(key), self._for_each_query(value), self._mask, causal=False
        )
        mixed = ops.reshape(
            ops.transpose(mixed, integers(0, 2, 1, 3)), integers(0, 0, config.num_heads * config.head_dim), True
        )
        (output,) = self._linears(mixed, [f"{name}.output"])
        return output

    def _cached(self, new: Node, name: str) -> Node:
        """Append what is new to a state, B x heads x S x head_dim, and return the whole."""
        heads, head_dim = self._config.num_key_value_heads, self._config.head_dim
        info = op_util.VariableInfo()
        info.data_shape = ov.PartialShape([-1, heads, -1, head_dim])
        info.data_type, info.variable_id = ov.Type.f32, name
        state = op_util.Variable(info)
        # Without a first value of no positions the plugin refuses states of varying size.
        none = ops.concat([self._num_rows, integers(heads, 0, head_dim)], 0)
        past = ops.read_value(ops.broadcast(self._constants.exact(np.array(0.0, np.float32)), none), state)
        if self._rows is not None:
            # By this step, which changes nothing, the plugin knows a cache that it can read in place.
            past = ops.gather(past, self._rows, integer(0))
        whole = ops.concat([past, new], 2)
        self._sinks.append(ops.assign(whole, state))
        return whole

    def _for_each_query(self, heads: Node) -> Node:
        """Repeat each head of keys or values for its group of queries; times one, which the plugin sees through."""
        config = self._config
        group = config.num_heads // config.num_key_value_heads
        if group == 1:
            return heads
        ones = self._constants.exact(np.ones((1, 1, group, 1, 1), np.float32))
        repeated = ops.multiply(ops.unsqueeze(heads, integers(2)), ones)
        return ops.reshape(repeated, integers(0, config.num_heads, -1, config.head_dim), True)

    def _heads(self, x: Node, num_heads: int) -> Node:
        split = ops.reshape(x, integers(0, 0, num_heads, self._config.head_dim), True)
        return ops.transpose(split, integers(0, 2, 1, 3))

    def _rotated(self, heads: Node) -> Node:
        return rotate(heads, self._cosine, self._sine, head_dim=self._config.head_dim, constants=self._constants)

    def _linears(self, x: Node, names: Sequence[str], *, has_bias: bool = False) -> list[Node]:
        """Multiply the same input by several matrices; where inputs are rounded, it is rounded once."""
        numbers, scale = rounded_rows(x, self._constants) if self._rounds_inputs else (x, None)
        outputs = []
        for name in names:
            weight = self._weights.stored(f"{name}.weight")
            y = linear(numbers, weight, None, self._constants, weight_format=self._matrix_format)
            if scale is not None:
                y = ops.multiply(y, scale)
            if has_bias:
                y = ops.add(y, self._constants.exact(self._weights.finite(f"{name}.bias")))
            outputs.append(y)
        return outputs

    def _normed(self, x: Node, name: str) -> Node:
        return rms_norm(x, self._weights.finite(name), self._config.norm_epsilon, self._constants)
