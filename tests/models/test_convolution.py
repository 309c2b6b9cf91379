"""Convolutions while they learn on a processor: the numbers of torch's own, and bfloat16 for products alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastvlm.models.vision import kernels
from fastvlm.models.vision.config import PRESETS
from fastvlm.models.vision.convolution import Convolution
from fastvlm.models.vision.fastvithd import FastViTHD, fuse

NANO = replace(PRESETS["fastvithd-nano"], form="train", multi_scale="depthwise")

KINDS = {
    "pointwise": {"in_channels": 12, "out_channels": 20, "kernel_size": 1},
    "pointwise, strided": {"in_channels": 12, "out_channels": 20, "kernel_size": 1, "stride": 2},
    "dense": {"in_channels": 3, "out_channels": 8, "kernel_size": 3, "stride": 2},
    "depthwise": {"in_channels": 16, "out_channels": 16, "kernel_size": 3, "groups": 16},
    "large depthwise": {"in_channels": 16, "out_channels": 16, "kernel_size": 7, "groups": 16},
    "widening depthwise": {"in_channels": 8, "out_channels": 16, "kernel_size": 7, "groups": 8, "stride": 2},
}
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def gradients(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a sum that weighs every number of the output differently."""
    return torch.autograd.grad((output * torch.arange(output.numel()).view_as(output).sin()).sum(), inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_torchs(kind: str, layout: str) -> None:
    torch.manual_seed(0)
    layer = Convolution(**KINDS[kind], bias=True).double()
    x = torch.randn(2, layer.in_channels, 6, 10, dtype=torch.float64).to(memory_format=LAYOUTS[layout])
    x.requires_grad_()
    wanted = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups)
    assert layer.bias is not None
    learned = (x, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), wanted)
    torch.testing.assert_close(gradients(layer(x), *learned), gradients(wanted, *learned))


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_rounds_products_and_leaves_all_else_exact(kind: str) -> None:
    torch.manual_seed(0)
    layer = Convolution(**KINDS[kind], bias=False)
    x = torch.randn(2, layer.in_channels, 6, 10).to(memory_format=torch.channels_last)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, exact) == (kind != "pointwise")
    torch.testing.assert_close(found, exact, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("form", ["learning", "kept", "fused"])
def test_an_encoder_learns_in_bfloat16_what_it_learns_in_float32(form: str) -> None:
    torch.manual_seed(0)
    encoder = fuse(FastViTHD(NANO)) if form == "fused" else FastViTHD(NANO).train(form == "learning")
    exact = encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as torch documents it
    rounded = copy.deepcopy(exact)
    kernels.load()
    pixels = torch.rand(4, 3, 128, 128).to(memory_format=torch.channels_last)
    maps = exact.forward_stages(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded_maps = rounded.forward_stages(pixels)
    for found, wanted in zip(rounded_maps, maps, strict=True):
        assert found.dtype == torch.float32
        error = float((found - wanted).detach().norm() / wanted.detach().norm())
        assert 0 < error < 0.02, error
    for one, output in ((exact, maps[-1]), (rounded, rounded_maps[-1])):
        (output * torch.arange(output.numel()).view_as(output).sin()).sum().backward()
        assert all(parameter.grad is None or parameter.grad.dtype == torch.float32 for parameter in one.parameters())
    found, wanted = (dict(one.named_parameters()) for one in (rounded, exact))
    largest = max(float(one.grad.norm()) for one in wanted.values() if one.grad is not None)
    for name, parameter in wanted.items():
        gradient, own = parameter.grad, found[name].grad
        assert gradient is not None and own is not None
        # Of what a norm takes out again rounding is all that is left.
        assert float((own - gradient).norm()) < 0.05 * float(gradient.norm()) + 0.005 * largest, name


def test_a_graph_for_another_engine_keeps_its_convolutions() -> None:
    layer = Convolution(4, 8, 1, bias=True)
    graph = torch.export.export(layer, (torch.rand(1, 4, 6, 6),)).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert any("conv2d" in name for name in called) and not any("linear" in name for name in called), called
