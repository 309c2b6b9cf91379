"""Convolutions for training on GPUs compute what torch computes, and only where they are wanted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fastvlm.models.vision import gpu_convolution
from fastvlm.models.vision.convolution import Convolution
from fastvlm.models.vision.gpu_convolution import convolve, many_sizes


@pytest.mark.parametrize(("size", "stride", "num_in", "num_out"), [(1, 1, 8, 12), (3, 2, 3, 8), (3, 1, 4, 4)], ids=str)
def test_dense_kernels_are_products(size: int, stride: int, num_in: int, num_out: int) -> None:
    x, weight, bias = torch.randn(2, num_in, 10, 14), torch.randn(num_out, num_in, size, size), torch.randn(num_out)
    expected = F.conv2d(x, weight, bias, stride, size // 2)
    assert convolve(x, weight, bias, stride=stride, groups=1) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (5, 1)])
def test_depthwise_kernels_of_other_sizes_are_not_tritons(size: int, stride: int) -> None:
    x, weight, bias = torch.randn(2, 6, 10, 14), torch.randn(6, 1, size, size), torch.randn(6)
    expected = F.conv2d(x, weight, bias, stride, size // 2, groups=6)
    assert convolve(x, weight, bias, stride=stride, groups=6) == pytest.approx(expected, abs=1e-5)


def test_processors_never_use_them() -> None:
    """The compiled kernels of processors and torch's own are faster there, and Triton has none."""
    x = torch.randn(1, 8, 16, 16)
    with many_sizes():
        assert not gpu_convolution.suit(x)
        assert gpu_convolution.memory_format(x.device) is torch.channels_last
        assert Convolution(8, 8, 7, groups=8, bias=True)(x).shape == x.shape


def test_maps_of_gpus_are_for_them_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(gpu_convolution, "_has_triton", lambda: True)
    assert gpu_convolution.memory_format(gpu) is torch.channels_last
    with many_sizes():
        assert gpu_convolution.memory_format(gpu) is torch.contiguous_format
        with many_sizes():
            pass
        assert gpu_convolution.memory_format(gpu) is torch.contiguous_format
    assert gpu_convolution.memory_format(gpu) is torch.channels_last
    monkeypatch.setattr(gpu_convolution, "_has_triton", lambda: False)
    with many_sizes():
        assert gpu_convolution.memory_format(gpu) is torch.channels_last


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("shape", [(3, 16, 8, 12), (2, 8, 24, 18), (2, 24, 33, 57), (1, 48, 128, 192)], ids=str)
def test_depthwise_kernels_and_their_gradients(
    shape: tuple[int, int, int, int], size: int, stride: int, dtype: torch.dtype
) -> None:
    """Against torch in float64, relative to the size of each: 0.008 is half a step of bfloat16 and its sums."""
    torch.manual_seed(0)
    channels = shape[1]
    x = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
    weight = torch.randn(channels, 1, size, size, device="cuda", dtype=dtype, requires_grad=True)
    bias = torch.randn(channels, device="cuda", dtype=dtype, requires_grad=True)
    with torch.backends.cudnn.flags(enabled=False):
        expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, size // 2, groups=channels)
        gradient = torch.randn_like(expected).to(dtype)
        wanted = torch.autograd.grad(expected, (x, weight, bias), gradient.double())
    got = convolve(x, weight, bias, stride=stride, groups=channels)
    found = torch.autograd.grad(got, (x, weight, bias), gradient)
    tolerance = 1e-5 if dtype is torch.float32 else 8e-3
    for one, other in zip((got, *found), (expected, *wanted), strict=True):
        assert _difference(one, other) < tolerance


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())
