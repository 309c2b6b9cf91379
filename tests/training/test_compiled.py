"""Compiled layers: the same numbers and gradients for rows of several lengths, and layers left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastvlm.training.compiled import compiled_layers


class Gate(nn.Module):
    """Something to join: a product, an activation, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, values: Tensor) -> Tensor:
        return values + torch.nn.functional.silu(self.linear(values)) * values


def outcome(gate: Gate, length: int) -> tuple[Tensor, Tensor]:
    values = torch.randn(2, length, 8, generator=torch.Generator().manual_seed(length))
    gate.zero_grad()
    result = gate(values)
    result.square().sum().backward()
    assert gate.linear.weight.grad is not None
    return result.detach(), gate.linear.weight.grad.clone()


def test_numbers_and_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    gate = Gate()
    expected = {length: outcome(gate, length) for length in (5, 7, 12)}
    with compiled_layers([gate]):
        assert "forward" in vars(gate)
        for length, (result, gradient) in expected.items():
            got = outcome(gate, length)
            assert torch.allclose(got[0], result, atol=1e-6) and torch.allclose(got[1], gradient, atol=1e-5)
    assert "forward" not in vars(gate)


def test_layers_run_as_they_are_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config

    torch._dynamo.reset()
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("/nowhere/g++",))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    torch.manual_seed(1)
    gate = Gate()
    expected = outcome(gate, 6)
    with compiled_layers([gate]):
        got = outcome(gate, 6)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_layers_are_left_as_they_were_after_an_error() -> None:
    gate = Gate()
    with pytest.raises(ValueError, match="stop"), compiled_layers([gate]):
        raise ValueError("stop")
    assert "forward" not in vars(gate)
