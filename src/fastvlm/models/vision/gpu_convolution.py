"""Convolutions for training on NVIDIA GPUs with pictures of many sizes.

cuDNN prepares a whole encoder for each new size and each new number of pictures, which takes it seconds, and batches of
documents have many of both. Here what is 1 x 1 is a matrix product, depthwise kernels are Triton's, which knows no
sizes, and the one dense kernel of the stem is a product of unfolded pixels. All want maps whose width is innermost.
Where all batches are alike cuDNN is faster (decision 23), so these are used inside `many_sizes` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_KERNEL_SIZES = (3, 7)
"""Of the depthwise kernels of Triton."""

_PROGRAMS = 8192
"""Programs that keep a large GPU busy."""


def _has_triton() -> bool:
    """Whether Triton is here: it comes with torch where torch is for NVIDIA's GPUs."""
    return find_spec("triton") is not None


class _Use:
    is_wanted = False


@contextmanager
def many_sizes() -> Iterator[None]:
    """Learn with the convolutions of this module inside, where there is a GPU that Triton writes kernels for."""
    before, _Use.is_wanted = _Use.is_wanted, _has_triton()
    try:
        yield
    finally:
        _Use.is_wanted = before


def suit(x: Tensor) -> bool:
    """Whether a map is for these convolutions: it lies on a GPU, is learned from, and they are wanted."""
    return _Use.is_wanted and x.is_cuda and torch.is_grad_enabled()


def memory_format(device: torch.device) -> torch.memory_format:
    """How maps are laid out on a device: processors and cuDNN want their channels innermost."""
    return torch.contiguous_format if _Use.is_wanted and device.type == "cuda" else torch.channels_last


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, groups: int) -> Tensor:
    """Map B x in x H x W to B x out x H/stride x W/stride; depthwise with one output of each input, or dense."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    size = weight.shape[-1]
    if groups > 1 and size in _KERNEL_SIZES:
        out: Tensor = _Depthwise.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]
        return out
    if groups > 1 and (size > 1 or stride > 1):
        return F.conv2d(x, weight, bias, stride, size // 2, groups=groups)
    out = x * weight[:, 0] if groups > 1 else _dense(x, weight, stride)
    return out if bias is None else out + bias[:, None, None]


def _dense(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    num, _, height, width = x.shape
    size = weight.shape[-1]
    columns = x.reshape(num, -1, height * width)
    if size > 1 or stride > 1:
        columns = F.unfold(x, size, padding=size // 2, stride=stride)
    rows = weight.flatten(1)
    return torch.matmul(rows, columns).view(num, len(rows), -(-height // stride), -(-width // stride))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        num, channels, height, width = x.shape
        out = x.new_empty(num, channels, -(-height // stride), -(-width // stride))
        given = torch.zeros(channels, dtype=x.dtype, device=x.device) if bias is None else bias.contiguous()
        _launch("forward", (x, weight, given), out, out.shape, stride)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = torch.empty_like(x)
            _launch("input_gradient", (gradient, weight), of_x, x.shape, ctx.stride)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(x, gradient, weight, ctx.stride)
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias, None


def _kernel(name: str) -> Any:
    """A kernel of Triton, which is imported where something learns from it and nowhere else."""
    from fastvlm.models.vision import triton_kernels

    return getattr(triton_kernels, name)


def _tile_of(width: int) -> tuple[int, int]:
    """Rows and columns that one program handles at once, of maps of this width."""
    return 16, 16 if width <= 16 else 32 if width <= 32 else 64


def _launch(name: str, given: tuple[Tensor, ...], out: Tensor, shape: torch.Size, stride: int) -> None:
    num, channels, height, width = shape
    x, weight, *_ = given
    rows, columns = _tile_of(width)
    grid = (num * channels, -(-height // rows) * -(-width // columns))
    _kernel(name)[grid](
        *given, out, channels, *x.shape[2:], height, width,
        SIZE=weight.shape[-1], STRIDE=stride, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


def _weight_gradient(x: Tensor, gradient: Tensor, weight: Tensor, stride: int) -> Tensor:
    num, channels, height, width = gradient.shape
    taps, size = weight[0].numel(), weight.shape[-1]
    rows, columns = _tile_of(width)
    share = -(-num // min(num, max(1, _PROGRAMS // (channels * size))))
    splits = -(-num // share)
    parts = torch.empty(splits, channels * taps, dtype=torch.float32, device=x.device)
    _kernel("weight_gradient")[(channels * size, splits)](
        x, gradient, parts, num, channels, *x.shape[2:], height, width, share,
        SIZE=size, STRIDE=stride, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip
    return parts.sum(0).view_as(weight).to(weight.dtype)
