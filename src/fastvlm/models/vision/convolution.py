"""Convolutions that torch has slow paths for, from faster ones: the same numbers, but what autocast asks to round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models.vision import gpu_convolution, kernels

_LARGE = 7
"""The kernel size whose gradient is slow in torch where a convolution is depthwise; that of 3 x 3 is fast."""


class Convolution(nn.Conv2d):
    """A convolution of odd kernel size that keeps height and width, or divides them by its stride."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1, bias: bool
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=bias
        )

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(input, weight, bias, stride=self.stride[0], groups=self.groups)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, groups: int) -> Tensor:
    """Map B x in x H x W to B x out x H/stride x W/stride. weight: out x in/groups x k x k, k odd.

    Under autocast on a processor products, which gain by it, are computed in the lower precision, and all else, which
    would lose, as it is; what comes out has the precision of x.
    """
    num_out, num_in = weight.shape[0], x.shape[1]
    if groups == 1 and gpu_convolution.suit(x):
        return gpu_convolution.convolve(x, weight, bias, stride=stride, groups=1)
    if groups == 1 and weight.shape[-1] == stride == 1 and _is_product_faster(x):
        return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1).to(x.dtype)
    if not torch.is_grad_enabled() or groups != num_in or groups == 1:
        return _conv2d(x, weight, bias, stride, groups)
    multiplier = num_out // num_in
    if multiplier == 1:
        return _depthwise(x, weight, bias, stride)
    # torch has a slow path for several outputs of each input, and a fast one for one output.
    outputs = []
    for index in range(multiplier):
        own_bias = None if bias is None else bias[index::multiplier]
        outputs.append(_depthwise(x, weight[index::multiplier], own_bias, stride))
    if gpu_convolution.suit(x):
        return torch.stack(outputs, 2).flatten(1, 2)
    # Joined with the channels innermost, as training and fast convolutions have them.
    return torch.stack([output.movedim(1, -1) for output in outputs], -1).flatten(-2).movedim(-1, 1)


def for_products(x: Tensor) -> Tensor:
    """What products alone are made of, in their precision, so that what they give each other is not converted."""
    is_rounded = _is_product_faster(x) and x.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return x.to(torch.get_autocast_dtype("cpu")) if is_rounded else x


def _is_product_faster(x: Tensor) -> bool:
    """Whether a matrix product stands in for a 1 x 1 convolution: on processors, where its gradient is slow.

    Where a graph is made of the network, for a compiler or another engine, it stays what it is.
    """
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    if gpu_convolution.suit(x):
        return gpu_convolution.convolve(x, weight, bias, stride=stride, groups=x.shape[1])
    if weight.shape[-1] == _LARGE and kernels.suit(x) and x.shape[1] % 8 == 0 and weight.dtype == x.dtype:
        out: Tensor = _LargeDepthwise.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]
        return out
    return _conv2d(x, weight, bias, stride, x.shape[1])


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    with as_it_is(x):
        out: Tensor = F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)
    return out


@contextmanager
def as_it_is(x: Tensor) -> Iterator[None]:
    """No autocast inside for what lies on a processor."""
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            yield
    else:
        yield


class _LargeDepthwise(torch.autograd.Function):
    """A depthwise convolution whose gradient comes from the compiled kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        """Map B x C x H x W to B x C x H/stride x W/stride."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _conv2d(x, weight, bias, stride, x.shape[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight and bias."""
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        of_x = of_weight = None
        if wants_x or wants_weight:
            of_x, of_weight = torch.ops.fastvlm.depthwise_gradients(
                x, gradient, weight, ctx.stride, wants_x, wants_weight
            )
        of_bias = gradient.sum((0, 2, 3)) if wants_bias else None
        return of_x, of_weight, of_bias, None
