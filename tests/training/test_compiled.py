"""Compiled layers: the same numbers and gradients at several lengths, hooks or none, and layers left as they were."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters

from fastvlm import compiler
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.language.decoder import Decoder
from fastvlm.training.compiled import compiled_layers
from fastvlm.training.tasks.grounding import watch

needs_compiler = pytest.mark.skipif(not shutil.which("c++") and not shutil.which("g++"), reason="no C++ compiler")


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


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


@needs_compiler
def test_numbers_and_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    gate = Gate()
    expected = {length: outcome(gate, length) for length in (5, 7, 12)}
    with compiled_layers([gate]):
        for length, (result, gradient) in expected.items():
            got = outcome(gate, length)
            assert torch.allclose(got[0], result, atol=1e-6) and torch.allclose(got[1], gradient, atol=1e-5)
    assert "forward" not in vars(gate)
    assert counters["stats"]["unique_graphs"] > 0 and not counters["unimplemented"]


@needs_compiler
@pytest.mark.slow
def test_what_is_watched_is_noticed_after_steps_that_were_not() -> None:
    """As in training, where scores are told between steps: each call of `watch` is given the inputs of every layer."""
    torch.manual_seed(0)
    config = DecoderConfig(
        vocabulary_size=64, width=32, num_layers=2, num_heads=2, num_key_value_heads=2, feed_forward_width=64,
        head_dim=16, max_positions=64,
    )  # fmt: skip
    decoder = Decoder(config)
    embeddings = torch.randn(1, 9, 32)

    def step() -> tuple[Tensor, Tensor]:
        decoder.zero_grad()
        hidden = decoder(embeddings, positions=torch.arange(9)[None])
        hidden.square().mean().backward()
        gradients = [value.grad.flatten() for value in decoder.layers.parameters() if value.grad is not None]
        return hidden.detach(), torch.cat(gradients)

    with watch(decoder) as wanted:
        expected = step()
    with compiled_layers(list(decoder.layers)):
        step()
        for _ in range(2):
            with watch(decoder) as inputs:
                hidden, gradients = step()
            assert inputs.keys() == wanted.keys() == {0, 1}
            for index, entry in inputs.items():
                assert torch.allclose(entry.normalised, wanted[index].normalised, atol=1e-5)
            assert torch.allclose(hidden, expected[0], atol=1e-5)
            assert torch.allclose(gradients, expected[1], atol=1e-5)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("wanted", ["FASTVLM_KERNELS", "no C\\+\\+ compiler"])
def test_layers_run_as_they_are_where_nothing_can_be_compiled(
    wanted: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if wanted == compiler.SWITCH:
        monkeypatch.setenv(compiler.SWITCH, "off")
    else:
        monkeypatch.setenv("CXX", "/nowhere/c++")
    torch.manual_seed(1)
    gate = Gate()
    expected = outcome(gate, 6)
    with caplog.at_level(logging.WARNING), compiled_layers([gate]):
        assert "forward" not in vars(gate)
        got = outcome(gate, 6)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    assert len(caplog.messages) == 1 and wanted.replace("\\", "") in caplog.messages[0]


def test_layers_run_as_they_are_where_torch_refuses_to_compile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("this Python is too new")

    monkeypatch.setattr(compiler, "reason_against_compiling", lambda: None)
    monkeypatch.setattr(torch, "compile", refuse)
    gate = Gate()
    with caplog.at_level(logging.WARNING), compiled_layers([gate]):
        outcome(gate, 6)
    assert "this Python is too new" in caplog.text


def test_layers_are_left_as_they_were_after_an_error() -> None:
    gate = Gate()
    with pytest.raises(ValueError, match="stop"), compiled_layers([gate]):
        raise ValueError("stop")
    assert "forward" not in vars(gate)
