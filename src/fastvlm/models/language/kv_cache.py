"""Keys and values of the positions that a decoder has already read."""

from __future__ import annotations

import torch
from torch import Tensor

from fastvlm.models.language.config import DecoderConfig


class KVCache:
    """Keys and values of every layer, each batch x num_key_value_heads x capacity x head_dim.

    The storage is allocated once; a cache whose `capacity` covers prompt and answer never copies. One that turns out
    too small doubles.
    """

    def __init__(
        self, config: DecoderConfig, *, batch_size: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (batch_size, config.num_key_value_heads, max(capacity, 1), config.head_dim)
        self._keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self._values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self._lengths = [0] * config.num_layers

    @property
    def batch_size(self) -> int:
        """Rows of the batch."""
        return self._keys[0].shape[0]

    @property
    def capacity(self) -> int:
        """Positions that fit without another allocation."""
        return self._keys[0].shape[2]

    @property
    def num_positions(self) -> int:
        """Positions that every layer holds, padding included."""
        return self._lengths[-1]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store T new positions of one layer; returns views of all its keys and values.

        keys, values: batch x num_key_value_heads x T x head_dim. Layers append in turn, the last one last.
        """
        start = self._lengths[layer]
        end = start + keys.shape[2]
        if end > self._keys[layer].shape[2]:
            self._grow(layer, end)
        self._keys[layer][:, :, start:end] = keys
        self._values[layer][:, :, start:end] = values
        self._lengths[layer] = end
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def truncate(self, num_positions: int) -> None:
        """Forget all positions from `num_positions` on; they are written over. No cache grows by this."""
        self._lengths = [min(length, num_positions) for length in self._lengths]

    def _grow(self, layer: int, num_needed: int) -> None:
        length = self._lengths[layer]
        for storage in (self._keys, self._values):
            old = storage[layer]
            capacity = max(num_needed, 2 * old.shape[2])
            grown = old.new_empty((*old.shape[:2], capacity, old.shape[3]))
            grown[:, :, :length] = old[:, :, :length]
            storage[layer] = grown
