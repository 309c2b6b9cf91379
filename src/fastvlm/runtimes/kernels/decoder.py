"""A decoder that the kernels compute, and its caches."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastvlm.batches import Float32Array, Int64Array
from fastvlm.checkpoints.arrays import UInt16Array, Weights
from fastvlm.errors import GenerationError
from fastvlm.models.language.config import DecoderConfig
from fastvlm.runtimes.kernels import library as kernels
from fastvlm.runtimes.kernels.decoder_packing import decoder_packing
from fastvlm.runtimes.kernels.packed import Packed, check_opened
from fastvlm.runtimes.kernels.packing import POSITIONS
from fastvlm.runtimes.protocol import WeightFormat

MAX_POSITIONS_AT_ONCE = 1024
"""A longer prompt is read in pieces, between which an interruption is noticed."""

_FIRST_CAPACITY = 256

_NO_MEMORY = "Expected memory to read a prompt, there is not enough. Ask with fewer pictures, or in fewer words."


@dataclass
class _Row:
    """Keys and values of one conversation, with room for more: layers x heads x capacity x head_dim in bfloat16, in
    the order of attention.hpp. num_padding: positions on its left that nobody reads, which are not held."""

    keys: UInt16Array
    values: UInt16Array
    num_padding: int

    def make_room(self, num_positions: int) -> None:
        """Have room for so many positions."""
        capacity = self.values.shape[2]
        if num_positions <= capacity:
            return
        wanted = -(-max(num_positions, 2 * capacity) // POSITIONS) * POSITIONS
        # Both or none: there may not be enough memory for the second.
        self.keys, self.values = (_longer(old, wanted) for old in (self.keys, self.values))


def _longer(old: UInt16Array, capacity: int) -> UInt16Array:
    new = np.zeros((*old.shape[:2], capacity, old.shape[3]), np.uint16)
    new[:, :, : old.shape[2]] = old
    return new


@dataclass
class KernelCache:
    """Keys and values of B left-padded rows. num_padding: B."""

    num_padding: Int64Array
    rows: list[_Row]
    num_positions: int = field(default=0)
    """Positions held for each row, padding included."""

    def keep(self, num_positions: int) -> None:
        """Keep the first `num_positions`."""
        self.num_positions = num_positions


class KernelDecoder:
    """A decoder in the kernels. path: where its packed weights are kept, None to keep none.

    Raises NoLibraryError where there are no kernels, GenerationError where no threads can be had.
    """

    def __init__(
        self,
        config: DecoderConfig,
        weights: Weights,
        *,
        weight_format: WeightFormat | None = None,
        path: Path | None = None,
        num_threads: int,
    ) -> None:
        self._config, self._library = config, kernels.load().functions
        self._packed = Packed(decoder_packing(config, weights, weight_format), weights, path, num_threads=num_threads)
        shape = kernels.DecoderShape(
            config.width, config.feed_forward_width, config.num_layers, config.num_heads, config.num_key_value_heads,
            config.head_dim, config.vocabulary_size, config.norm_epsilon,
        )  # fmt: skip
        layers = (kernels.Layer * config.num_layers)(*map(self._layer, range(config.num_layers)))
        place, head = self._packed.place("norm"), self._packed.matrix("head")
        self._handle = self._library.fastvlm_open_decoder(shape, layers, place, head, num_threads)
        check_opened(self._handle, num_threads)
        # Not when the process ends: a thread of a server may still be reading then.
        weakref.finalize(self, self._library.fastvlm_close_decoder, self._handle).atexit = False
        self._frequencies = config.rotary_frequencies()

    def _layer(self, layer: int) -> kernels.Layer:
        place, matrix = self._packed.place, self._packed.matrix
        return kernels.Layer(
            place(f"{layer}.attention_norm"), matrix(f"{layer}.mixed"),
            place(f"{layer}.mixed_bias") if self._config.has_attention_bias else None, matrix(f"{layer}.output"),
            place(f"{layer}.feed_forward_norm"), matrix(f"{layer}.gate_and_up"), matrix(f"{layer}.down"),
        )  # fmt: skip

    def fetch(self) -> None:
        """See `Packed.fetch`."""
        self._packed.fetch()

    def new_cache(self, num_padding: Int64Array) -> KernelCache:
        """A cache that holds nothing yet, of rows with so much padding on their left."""
        config = self._config
        shape = (config.num_layers, config.num_key_value_heads, _FIRST_CAPACITY, config.head_dim)
        rows = [_Row(np.zeros(shape, np.uint16), np.zeros(shape, np.uint16), int(number)) for number in num_padding]
        return KernelCache(num_padding, rows)

    def read(self, cache: KernelCache, embeddings: Float32Array) -> Float32Array:
        """Read B x T new positions, B x T x width; returns the logits after the last one, B x vocabulary.

        Raises GenerationError where there is not enough memory.
        """
        for start in range(0, embeddings.shape[1], MAX_POSITIONS_AT_ONCE):
            logits = self._read(cache, embeddings[:, start : start + MAX_POSITIONS_AT_ONCE])
        return logits

    def _read(self, cache: KernelCache, embeddings: Float32Array) -> Float32Array:
        end = cache.num_positions + embeddings.shape[1]
        sequences, parts, positions = [], [], []
        for row, new in zip(cache.rows, embeddings, strict=True):
            num_held, num_all = max(0, cache.num_positions - row.num_padding), max(0, end - row.num_padding)
            if num_all == num_held:
                continue  # nothing but padding
            try:
                row.make_room(num_all)
            except MemoryError as error:
                raise GenerationError(_NO_MEMORY) from error
            capacity = row.values.shape[2]
            num_new = num_all - num_held
            sequences.append(
                kernels.Sequence(row.keys.ctypes.data, row.values.ctypes.data, capacity, num_held, num_new)
            )
            parts.append(new[len(new) - num_new :])
            positions.append(np.arange(num_held, num_all, dtype=np.float32))
        logits = self._logits(sequences, np.concatenate(parts), np.concatenate(positions))
        # Only now: what fails has added nothing that the cache knows of.
        cache.num_positions = end
        return logits

    def _logits(
        self, sequences: list[kernels.Sequence], embeddings: Float32Array, positions: Float32Array
    ) -> Float32Array:
        rows = np.ascontiguousarray(embeddings, np.float32)
        angles = positions[:, None] * self._frequencies
        cosines, sines = np.cos(angles), np.sin(angles)
        logits = np.empty((len(sequences), self._config.vocabulary_size), np.float32)
        failed = self._library.fastvlm_read(
            self._handle, (kernels.Sequence * len(sequences))(*sequences), len(sequences),
            *(values.ctypes.data for values in (rows, cosines, sines, logits)),
        )  # fmt: skip
        if failed:
            raise GenerationError(_NO_MEMORY)
        return logits
