"""Both attentions against the definition of attention, written out in float64 with loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fastvlm.models import attention
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.language.decoder import Attention, rotary_angles
from fastvlm.models.language.kv_cache import KVCache
from fastvlm.models.vision.fastvithd import SelfAttention
from fastvlm.models.vlm import segment_mask

BATCH, LENGTH = 2, 9


def config(*, num_key_value_heads: int, has_attention_bias: bool) -> DecoderConfig:
    return DecoderConfig(
        vocabulary_size=8, width=24, num_layers=1, num_heads=4, num_key_value_heads=num_key_value_heads,
        feed_forward_width=8, head_dim=8, max_positions=64, rope_theta=100.0, has_attention_bias=has_attention_bias,
    )  # fmt: skip


def randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module


def attended(query: Tensor, keys: Tensor, values: Tensor, allowed: list[int]) -> Tensor:
    """One query over the positions that it may see: softmax of scaled products, then the mean of the values."""
    scores = torch.stack([query @ keys[position] for position in allowed]) / math.sqrt(len(query))
    weights = (scores - scores.max()).exp()
    weights = weights / weights.sum()
    return sum(weight * values[position] for weight, position in zip(weights, allowed, strict=True))


def turned(heads: Tensor, position: int, theta: float) -> Tensor:
    """Rotary position as a product of complex numbers, whose parts are the two halves of a head."""
    half = heads.shape[-1] // 2
    exponents = torch.arange(half, dtype=torch.float64) / half
    angles = position * theta**-exponents
    turn = torch.complex(angles.cos(), angles.sin())
    product = torch.complex(heads[..., :half], heads[..., half:]) * turn
    return torch.cat([product.real, product.imag], dim=-1)


def reference(module: Attention, hidden: Tensor, positions: Tensor, mask: Tensor, settings: DecoderConfig) -> Tensor:
    """The decoder's attention, one row, head and position at a time."""

    def project(layer: nn.Linear, row: Tensor) -> Tensor:
        bias = 0 if layer.bias is None else layer.bias.double()
        return (row @ layer.weight.double().T + bias).view(len(row), -1, settings.head_dim)

    rows = []
    for batch, row in enumerate(hidden.double()):
        query, key, value = (project(layer, row) for layer in (module.query, module.key, module.value))
        for position in range(len(row)):
            place = int(positions[batch, position])
            query[position] = turned(query[position], place, settings.rope_theta)
            key[position] = turned(key[position], place, settings.rope_theta)
        mixed = torch.zeros(len(row), settings.num_heads, settings.head_dim, dtype=torch.float64)
        for head in range(settings.num_heads):
            shared = head * settings.num_key_value_heads // settings.num_heads
            for position in range(len(row)):
                allowed = mask[batch, 0, position].nonzero().flatten().tolist()
                mixed[position, head] = attended(query[position, head], key[:, shared], value[:, shared], allowed)
        rows.append(mixed.flatten(1) @ module.output.weight.double().T)
    return torch.stack(rows)


def causal() -> Tensor:
    return torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(BATCH, 1, LENGTH, LENGTH)


def left_padded() -> Tensor:
    """The second row has three positions of padding, which see themselves alone and are seen by nobody."""
    mask = causal().clone()
    mask[1, 0, :, :3] = False
    return mask | torch.eye(LENGTH, dtype=torch.bool)


def packed() -> Tensor:
    return segment_mask(torch.tensor([[0, 0, 1, 1, 1, 2, 2, -1, -1], [0, 1, 1, 2, 2, 2, 3, 3, 3]]))


MASKS = {"causal": causal, "left-padded": left_padded, "packed": packed}


@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize(
    ("num_key_value_heads", "has_attention_bias"), [(4, True), (2, True), (1, False)], ids=["full", "grouped", "single"]
)
@torch.no_grad()
def test_pitfall_b17_the_decoders_attention_is_that_of_the_definition(
    mask_name: str, num_key_value_heads: int, has_attention_bias: bool
) -> None:
    settings = config(num_key_value_heads=num_key_value_heads, has_attention_bias=has_attention_bias)
    module = randomized(Attention(settings, 0))
    hidden = torch.randn(BATCH, LENGTH, settings.width, generator=torch.Generator().manual_seed(1))
    positions = torch.stack([torch.arange(LENGTH), (torch.arange(LENGTH) - 3).clamp_min(0)])
    angles = rotary_angles(positions, head_dim=settings.head_dim, theta=settings.rope_theta)
    mask = MASKS[mask_name]()
    expected = reference(module, hidden, positions, mask, settings)
    ours = module(hidden, angles=angles, mask=mask, cache=None)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5)
    if mask_name == "causal":
        unmasked = module(hidden, angles=angles, mask=None, cache=None)
        torch.testing.assert_close(unmasked.double(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pitfall_b17_one_position_after_a_cache_is_that_of_the_definition() -> None:
    settings = config(num_key_value_heads=2, has_attention_bias=True)
    module = randomized(Attention(settings, 0))
    hidden = torch.randn(BATCH, LENGTH, settings.width, generator=torch.Generator().manual_seed(1))
    positions = torch.arange(LENGTH).expand(BATCH, LENGTH)
    expected = reference(module, hidden, positions, causal(), settings)
    cache = KVCache(settings, batch_size=BATCH, capacity=2, device=torch.device("cpu"), dtype=torch.float32)
    for position in range(LENGTH):
        here = slice(position, position + 1)
        angles = rotary_angles(positions[:, here], head_dim=settings.head_dim, theta=settings.rope_theta)
        ours = module(hidden[:, here], angles=angles, mask=None, cache=cache)
        torch.testing.assert_close(ours.double(), expected[:, here], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pitfall_b17_the_encoders_attention_is_that_of_the_definition() -> None:
    module = randomized(SelfAttention(16, head_dim=8))
    maps = torch.randn(BATCH, 16, 2, 3, generator=torch.Generator().manual_seed(1))
    ours = module(maps)
    everywhere = list(range(6))
    for batch in range(BATCH):
        tokens = maps[batch].double().flatten(1).T
        query, key, value = (tokens @ module.qkv.weight.double().T).view(6, 3, 2, 8).unbind(1)
        for position in everywhere:
            mixed = [attended(query[position, head], key[:, head], value[:, head], everywhere) for head in range(2)]
            expected = torch.cat(mixed) @ module.output.weight.double().T + module.output.bias.double()
            found = ours[batch, :, position // 3, position % 3].double()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["masked", "open", "causal"])
@pytest.mark.parametrize("groups", [4, 2])
def test_learning_in_bfloat16_on_a_processor_takes_plain_steps(
    groups: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(4)
    shapes = ((BATCH, 4, LENGTH, 8), (BATCH, groups, LENGTH, 8), (BATCH, groups, LENGTH, 8))
    exact = [torch.randn(shape, generator=generator).bfloat16().float().requires_grad_() for shape in shapes]
    rounded = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    mask = torch.ones(BATCH, 1, LENGTH, LENGTH, dtype=torch.bool).tril(3) if kind == "masked" else None
    wanted = attention.attend(*exact, mask, is_causal=kind == "causal")
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", None)
    found = attention.attend(*rounded, mask, is_causal=kind == "causal")
    assert found.dtype == torch.bfloat16
    found.float().square().sum().backward()
    wanted.square().sum().backward()
    for one, other in [(found, wanted), *((one.grad, other.grad) for one, other in zip(rounded, exact, strict=True))]:
        assert one is not None and other is not None
        assert float((one.float() - other).detach().norm() / other.detach().norm()) < 0.02
