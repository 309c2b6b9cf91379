"""The cache returns what was put in, in order, whether it was large enough at first or not."""

from __future__ import annotations

import pytest
import torch

from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.language.kv_cache import KVCache

CONFIG = DecoderConfig(
    vocabulary_size=10,
    width=8,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    feed_forward_width=16,
    head_dim=3,
    max_positions=64,
)


def new_cache(capacity: int) -> KVCache:
    return KVCache(CONFIG, batch_size=2, capacity=capacity, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize("capacity", [0, 1, 4, 64])
def test_everything_appended_comes_back_in_order(capacity: int) -> None:
    cache = new_cache(capacity)
    keys, values = torch.randn(2, 2, 2, 15, 3), torch.randn(2, 2, 2, 15, 3)
    start = 0
    for length in (5, 1, 1, 7, 1):
        end = start + length
        for layer in range(2):
            held = cache.append(layer, keys[layer, :, :, start:end], values[layer, :, :, start:end])
            assert torch.equal(held[0], keys[layer, :, :, :end])
            assert torch.equal(held[1], values[layer, :, :, :end])
        start = end
        assert cache.num_positions == end
    assert cache.capacity >= 15
    assert cache.batch_size == 2


def test_positions_count_once_every_layer_has_them() -> None:
    cache = new_cache(4)
    new = torch.randn(2, 2, 3, 3)
    assert cache.num_positions == 0
    cache.append(0, new, new)
    assert cache.num_positions == 0
    cache.append(1, new, new)
    assert cache.num_positions == 3


def test_sufficient_capacity_never_allocates_again() -> None:
    cache = new_cache(8)
    addresses = set()
    for _ in range(8):
        keys, _ = cache.append(0, torch.randn(2, 2, 1, 3), torch.randn(2, 2, 1, 3))
        addresses.add(keys.data_ptr())
    assert len(addresses) == 1
    assert cache.capacity == 8


def test_growth_is_by_doubling_so_that_long_answers_copy_little() -> None:
    cache = new_cache(1)
    capacities = set()
    for _ in range(100):
        for layer in range(2):
            cache.append(layer, torch.randn(2, 2, 1, 3), torch.randn(2, 2, 1, 3))
        capacities.add(cache.capacity)
    assert capacities == {1, 2, 4, 8, 16, 32, 64, 128}
