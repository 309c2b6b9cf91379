"""The decoder's graphs at work: which of them reads what, and how keys and values pass between them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov

from fastvlm.batches import Float32Array, Int64Array
from fastvlm.checkpoints.arrays import Weights
from fastvlm.models.language.config import DecoderConfig
from fastvlm.runtimes.openvino.decoder import DecoderForm, DecoderGraph
from fastvlm.runtimes.openvino.engine import Compiled, Engine, Run, has_amx_int8
from fastvlm.runtimes.protocol import WeightFormat

MAX_POSITIONS_AT_ONCE = 1024
"""A longer prompt is read in pieces, for whose attention over all of it there is memory."""

FEW_POSITIONS = 48
"""Up to so many new positions behind held ones are read by the fused decoder, about as fast as by the plain one, which
then need not be compiled."""

FEW_ROUNDED = 16
"""Where there is a decoder in the form `rounded`, it is the faster one for more positions than these, in all rows
together, whether any are held or not."""


@dataclass
class OpenVINOCache:
    """Keys and values of B left-padded rows, inside a run of the fused decoder.

    is_word: B x S, 0 for padding. num_padding: B.
    """

    request: Any
    is_word: Int64Array
    num_padding: Int64Array

    @property
    def num_positions(self) -> int:
        """Positions held for each row, padding included."""
        return int(self.is_word.shape[1])

    def keep(self, num_positions: int) -> None:
        """Keep the first `num_positions`, whatever more the run holds."""
        self.is_word = self.is_word[:, :num_positions]
        for state in self.request.query_state():
            state.state = ov.Tensor(np.ascontiguousarray(state.state.data[:, :, :num_positions]))


class Decoders:
    """A decoder in one or two forms: `fused`, in whose runs caches live, and another one for many positions.

    weight_format: bits of the matrices, None as they are stored. Where the processor has a matrix unit for eight bits,
    they have a form `rounded` beside them; else a form `plain` is compiled when it is first needed.
    """

    def __init__(
        self, config: DecoderConfig, weights: Weights, engine: Engine, *, weight_format: WeightFormat | None
    ) -> None:
        self._config, self._weights, self._engine, self._weight_format = config, weights, engine, weight_format
        # The plugin rounds inputs by groups where they are float32 alone: in bfloat16 it widens the weights instead.
        self._precision = "float32" if engine.input_group else None
        self._has_matrix_unit = weight_format is not None and has_amx_int8()
        self.fused = self._compiled("fused")
        self._many: Run | None = None
        self._head: Run | None = None
        if self._has_matrix_unit:
            # Two decoders in constant use share their head.
            self._many = self._compiled("rounded").run()
            head = engine.compiled("decoder-head", lambda: self._graph().build_head(), precision=self._precision)
            self._head = head.run()
        # Each run serves one caller at a time; each cache decodes in a run of its own, and nobody who decodes should
        # have to wait for somebody's prompt.
        self._many_lock, self._head_lock = threading.Lock(), threading.Lock()

    def _graph(self) -> DecoderGraph:
        return DecoderGraph(
            self._config,
            self._weights,
            precision=self._engine.precision,
            weight_format=self._weight_format,
            has_head=not self._has_matrix_unit,
        )

    def _compiled(self, form: DecoderForm) -> Compiled:
        name = f"decoder-{form}" + ("-body" if self._has_matrix_unit else "")
        precision = None if form == "rounded" else self._precision
        return self._engine.compiled(name, lambda: self._graph().build(form), precision=precision)

    def new_cache(self, num_padding: Int64Array) -> OpenVINOCache:
        """A cache that holds nothing yet, of rows with so much padding on their left."""
        return OpenVINOCache(self.fused.request(), np.zeros((len(num_padding), 0), np.int64), num_padding)

    def read(self, cache: OpenVINOCache, embeddings: Float32Array) -> Float32Array:
        """Read B x T new positions, B x T x width; returns the logits after the last one, B x vocabulary."""
        num_rows, num_new = embeddings.shape[:2]
        num_held = cache.num_positions
        steps = np.arange(num_held + num_new)
        is_word = (steps >= cache.num_padding[:, None]).astype(np.int64)
        positions = np.maximum(steps - cache.num_padding[:, None], 0)[:, num_held:]
        for start in range(0, num_new, MAX_POSITIONS_AT_ONCE):
            end = min(num_new, start + MAX_POSITIONS_AT_ONCE)
            inputs = {
                "embeddings": np.ascontiguousarray(embeddings[:, start:end]),
                "positions": np.ascontiguousarray(positions[:, start:end]),
                "is_word": np.ascontiguousarray(is_word[:, : num_held + end]),
            }
            if self._are_many(num_rows, end - start, is_first=cache.num_positions == 0):
                outputs = self._read_many(cache, inputs)
            else:
                rows = {"rows": np.arange(num_rows, dtype=np.int32)}
                outputs = self.fused.infer(cache.request, inputs | rows, is_long=num_new > 1)
            # Only now: what fails has added nothing that the cache knows of.
            cache.is_word = inputs["is_word"]
        return self._logits(outputs)

    def _are_many(self, num_rows: int, num_new: int, *, is_first: bool) -> bool:
        """Whether the other decoder is the faster one."""
        if self._has_matrix_unit:
            return num_new > 1 and num_rows * num_new > FEW_ROUNDED
        return not is_first and num_new > FEW_POSITIONS

    def _read_many(self, cache: OpenVINOCache, inputs: dict[str, Any]) -> Any:
        with self._many_lock:
            if self._many is None:
                self._many = self._compiled("plain").run()
            if cache.num_positions:
                _hand_over(cache.request, self._many.request)
            else:
                self._many.request.reset_state()
            outputs = self._many.infer(inputs)
            _hand_over(self._many.request, cache.request)
        return outputs

    def _logits(self, outputs: Any) -> Float32Array:
        """What the last position scores, by the head where that is a graph of its own."""
        if self._head is not None:
            with self._head_lock:
                outputs = self._head.infer({"hidden": outputs["hidden"]}, is_long=False)
        return np.array(outputs["logits"], np.float32)


def _hand_over(source: Any, target: Any) -> None:
    """Give the states of one run to another."""
    states = {state.name: state for state in target.query_state()}
    for state in source.query_state():
        states[state.name].state = state.state
