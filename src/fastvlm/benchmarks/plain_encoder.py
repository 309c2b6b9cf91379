"""FastViTHD as one writes it with torch alone: what its form for training is measured beside.

It has the same parameters by the same names and gives the same numbers. Every convolution is torch's own, every branch
makes a map of its own, and every BatchNorm is called on one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models.vision import kernels
from fastvlm.models.vision.convolution import Convolution
from fastvlm.models.vision.fastvithd import FastViTHD, SelfAttention
from fastvlm.models.vision.reparameterizable import ConvNorm, LargeKernelConv, MobileOneBlock, RepMixer


def plain(encoder: FastViTHD) -> FastViTHD:
    """Return a copy of an encoder in its form for training that computes with torch's own layers alone."""
    return cast("FastViTHD", _plain(copy.deepcopy(encoder)))


@contextmanager
def without_kernels() -> Iterator[None]:
    """Compute without the compiled kernels inside, as where there is no compiler."""
    suit = kernels.suit
    kernels.suit = _suit_nothing
    try:
        yield
    finally:
        kernels.suit = suit


def _suit_nothing(map_: Tensor) -> bool:
    return False


class _PlainConvNorm(nn.Module):
    def __init__(self, like: ConvNorm) -> None:
        super().__init__()
        self.conv, self.norm = like.conv, like.norm

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out


class _PlainMobileOneBlock(nn.Module):
    def __init__(self, like: MobileOneBlock) -> None:
        super().__init__()
        self.conv, self.scale, self.skip = like.conv, like.scale, like.skip

    def forward(self, x: Tensor) -> Tensor:
        maps: list[Tensor] = [branch(x) for branch in (self.conv, self.scale, self.skip) if branch is not None]
        return reduce(torch.add, maps)


class _PlainLargeKernelConv(nn.Module):
    def __init__(self, like: LargeKernelConv) -> None:
        super().__init__()
        self.large, self.small = like.large, like.small

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.large(x) + self.small(x)
        return out


class _PlainRepMixer(nn.Module):
    def __init__(self, like: RepMixer) -> None:
        super().__init__()
        self.mixer, self.norm, self.layer_scale = like.mixer, like.norm, like.layer_scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layer_scale * (self.mixer(x) - self.norm(x))
        return out


class _PlainSelfAttention(nn.Module):
    def __init__(self, like: SelfAttention) -> None:
        super().__init__()
        self.qkv, self.output, self.head_dim = like.qkv, like.output, like.head_dim

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x.flatten(2).transpose(1, 2)).unflatten(2, (3, -1, self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.output(mixed).transpose(1, 2).view_as(x)
        return out


_TWINS = {
    ConvNorm: _PlainConvNorm,
    MobileOneBlock: _PlainMobileOneBlock,
    LargeKernelConv: _PlainLargeKernelConv,
    RepMixer: _PlainRepMixer,
    SelfAttention: _PlainSelfAttention,
}


def _plain(module: nn.Module) -> nn.Module:
    """The plain twin of a module, which takes over its parameters."""
    for name, child in list(module.named_children()):
        setattr(module, name, _plain(child))
    if isinstance(module, Convolution):
        return _plain_convolution(module)
    twin = _TWINS.get(type(module))
    return module if twin is None else twin(module)


def _plain_convolution(like: Convolution) -> nn.Conv2d:
    with torch.device("meta"):  # where nothing is drawn: its weights are those of the other
        twin = nn.Conv2d(
            like.in_channels,
            like.out_channels,
            like.kernel_size[0],
            like.stride[0],
            padding=like.kernel_size[0] // 2,
            groups=like.groups,
            bias=like.bias is not None,
        )
    twin.weight, twin.bias = like.weight, like.bias
    return twin
