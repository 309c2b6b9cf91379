"""Mixed precision: nothing where bfloat16 is slow, and elsewhere the numbers of float32 within its rounding."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from fastvlm.data.sources import SceneBatches
from fastvlm.models.language.decoder import Attention, rotary_angles
from fastvlm.models.vlm import FastVLM
from fastvlm.training import precision
from fastvlm.training.precision import encoder_precision, has_fast_bfloat16, mixed_precision
from fastvlm.training.tasks.instruct import InstructTask, SymbolTask

CPU = torch.device("cpu")
BFLOAT16_ERROR = 2**-9
"""The relative error of one rounding to bfloat16, which has 8 significant bits."""


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def is_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A machine with fast bfloat16, and one without; both compute in it correctly."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device: request.param)
    return bool(request.param)


def distance(rounded: Tensor, exact: Tensor) -> float:
    """Root mean square of the difference, beside that of the values."""
    return float((rounded.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def attend(
    attention: Attention, context: AbstractContextManager[None], *, has_hole: bool = True
) -> tuple[Tensor, Tensor]:
    """Mix some positions behind a mask with a hole; gives the result and the gradient of the queries' matrix."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(2, 10, attention.query.in_features, generator=generator)
    mask = torch.ones(10, 10, dtype=torch.bool).tril()
    mask[6:, 3:6] = not has_hole
    angles = rotary_angles(torch.arange(10).expand(2, 10), head_dim=attention.head_dim, theta=10_000.0)
    attention.zero_grad()
    with context:
        mixed = attention(hidden, angles=angles, mask=mask[None, None].expand(2, 1, 10, 10), cache=None)
    mixed.float().square().mean().backward()
    assert attention.query.weight.grad is not None
    return mixed.detach(), attention.query.weight.grad.clone()


@pytest.fixture
def attention(model: FastVLM) -> Attention:
    """One with weights large enough that attention is far from even."""
    part = model.decoder.layers[0].attention
    assert isinstance(part, Attention)
    for parameter in part.parameters():
        nn.init.normal_(parameter, std=0.15)
    return part


def test_without_fast_bfloat16_nothing_changes(attention: Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device: False)
    with mixed_precision(CPU):
        assert not torch.is_autocast_enabled("cpu")
    inside, outside = attend(attention, mixed_precision(CPU)), attend(attention, nullcontext())
    assert inside[0].dtype == torch.float32
    assert all(torch.equal(one, other) for one, other in zip(inside, outside, strict=True))


def test_attention_is_that_of_float32_within_the_rounding_of_bfloat16(
    attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device: True)
    rounded, exact = attend(attention, mixed_precision(CPU)), attend(attention, nullcontext())
    assert rounded[0].dtype == torch.bfloat16 and exact[0].dtype == torch.float32
    assert 0 < distance(rounded[0], exact[0]) < 5 * BFLOAT16_ERROR
    assert 0 < distance(rounded[1], exact[1]) < 12 * BFLOAT16_ERROR
    unmasked = attend(attention, nullcontext(), has_hole=False)
    assert distance(unmasked[0], exact[0]) > 50 * BFLOAT16_ERROR


def test_precision_is_mixed_only_inside(is_fast: bool) -> None:
    with mixed_precision(CPU):
        assert torch.is_autocast_enabled("cpu") == is_fast
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == (torch.bfloat16 if is_fast else torch.float32)
    assert not torch.is_autocast_enabled("cpu")


def test_on_processors_fastvithd_alone_gains_and_while_it_learns(is_fast: bool, model: FastVLM) -> None:
    for encoder, learns in ((model.vision, True), (model.vision, False), (nn.Conv2d(3, 8, 3), True)):
        with torch.set_grad_enabled(learns), encoder_precision(encoder, CPU):
            is_rounded = torch.is_autocast_enabled("cpu")
        assert is_rounded == (is_fast and learns and encoder is model.vision)
        assert not torch.is_autocast_enabled("cpu")


def test_an_error_inside_leaves_no_precision_behind(is_fast: bool) -> None:
    with pytest.raises(ZeroDivisionError), mixed_precision(CPU):
        raise ZeroDivisionError
    assert not torch.is_autocast_enabled("cpu") and (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("task_name", ["symbols", "pictures"])
def test_weights_gradients_and_losses_stay_in_float32(
    is_fast: bool, task_name: str, model: FastVLM, symbols: nn.Linear, batches: SceneBatches
) -> None:
    task = SymbolTask(model, symbols) if task_name == "symbols" else InstructTask(model)
    loss = task.loss(batches[0])
    loss.total.backward()
    assert loss.total.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in task.module.parameters())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in task.module.parameters())


@pytest.mark.parametrize("task_name", ["symbols", "pictures"])
def test_the_loss_is_that_of_float32_within_one_per_cent(
    task_name: str, model: FastVLM, symbols: nn.Linear, batches: SceneBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.eval()
    task = SymbolTask(model, symbols) if task_name == "symbols" else InstructTask(model)
    losses = {}
    for is_fast in (True, False):
        monkeypatch.setattr(precision, "has_fast_bfloat16", lambda _device, is_fast=is_fast: is_fast)
        losses[is_fast] = float(task.loss(batches[0]).total.detach())
    assert losses[True] == pytest.approx(losses[False], rel=1e-2)
    assert losses[True] != losses[False]


def test_a_processor_is_fast_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert has_fast_bfloat16(CPU) is expected
    assert has_fast_bfloat16(torch.device("meta")) is False
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_fast_bfloat16(CPU) is False
