"""Convolutions that train with parallel branches and run as one (MobileOne; paper section 3.2 and appendix B).

Every block has two forms. In the form `train` it sums branches, each followed by BatchNorm; in the form `fused` it
is a single convolution with a bias, `fused`, whose kernel `merged_kernel()` of the train form computes. The train form
computes as that one convolution too where it learns with kept statistics: gradients reach the branches by the kernel.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models.vision.config import Form
from fastvlm.models.vision.convolution import Convolution, convolve
from fastvlm.models.vision.normalised_sum import Branch, normalised_sum


class Kernel(NamedTuple):
    """A convolution's weight, out x in/groups x k x k, and bias, out; in float64 while branches are summed."""

    weight: Tensor
    bias: Tensor


class ConvNorm(nn.Module):
    """A convolution without bias, then BatchNorm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = Convolution(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x in x H x W to B x out x H/stride x W/stride."""
        if _learns_as_one(self):
            return _as_one(x, self.merged_kernel(_sum_dtype(x)), stride=self.conv.stride[0], groups=self.conv.groups)
        return normalised_sum([self.conv(x)], [Branch(0, self.norm)])

    def merged_kernel(self, dtype: torch.dtype = torch.float64) -> Kernel:
        """The one convolution that equals this pair in evaluation mode."""
        scale, shift = _norm_scale_and_shift(self.norm, dtype)
        return Kernel(self.conv.weight.to(dtype) * scale[:, None, None, None], shift)


class MobileOneBlock(nn.Module):
    """Parallel convolutions, an optional 1x1 scale branch and an identity branch where shapes allow (MobileOne).

    Without convolution branches (`has_conv_branch=False`) only the identity's BatchNorm is left, as in the norm of
    a RepMixer. The activation and squeeze-excite are the caller's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        has_conv_branch: bool = True,
        has_scale_branch: bool = True,
        form: Form,
    ) -> None:
        super().__init__()
        self.in_channels, self.kernel_size, self.stride, self.groups = in_channels, kernel_size, stride, groups
        if form == "fused":
            self.fused = Convolution(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=True)
            return
        self.conv = (
            ConvNorm(in_channels, out_channels, kernel_size, stride=stride, groups=groups) if has_conv_branch else None
        )
        self.scale = (
            ConvNorm(in_channels, out_channels, 1, stride=stride, groups=groups)
            if has_scale_branch and kernel_size > 1
            else None
        )
        self.skip = nn.BatchNorm2d(in_channels) if in_channels == out_channels and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map B x in x H x W to B x out x H/stride x W/stride."""
        if hasattr(self, "fused"):
            fused: Tensor = self.fused(x)
            return fused
        if _learns_as_one(self):
            return _as_one(x, self.merged_kernel(_sum_dtype(x)), stride=self.stride, groups=self.groups)
        return normalised_sum(*self.branches(x))

    def branches(self, x: Tensor) -> tuple[list[Tensor], list[Branch]]:
        """What the block adds up, and the maps that it takes; the first one is x where that is among them."""
        maps: list[Tensor] = []
        found: list[Branch] = []
        scale = None if self.scale is None else self.scale.conv
        # A depthwise 1 x 1 convolution of every position makes no map of its own.
        is_plain_scale = scale is not None and scale.groups == scale.out_channels and scale.stride == (1, 1)
        if self.skip is not None or is_plain_scale:
            maps.append(x)
        if self.skip is not None:
            found.append(Branch(0, self.skip))
        if self.scale is not None and is_plain_scale:
            found.append(Branch(0, self.scale.norm, scale=self.scale.conv.weight.flatten()))
        for branch in (self.conv, None if is_plain_scale else self.scale):
            if branch is not None:
                found.append(Branch(len(maps), branch.norm))
                maps.append(branch.conv(x))
        return maps, found

    def merged_kernel(self, dtype: torch.dtype = torch.float64) -> Kernel:
        """The sum of the branches as one convolution."""
        kernels = [branch.merged_kernel(dtype) for branch in (self.conv, self.scale) if branch is not None]
        if self.skip is not None:
            kernels.append(_identity_norm_kernel(self.skip, self.groups, dtype))
        return _sum_kernels(kernels, self.kernel_size)


class LargeKernelConv(nn.Module):
    """A strided depthwise convolution with a small kernel beside the large one while it trains (patch embedding)."""

    def __init__(self, in_channels: int, out_channels: int, *, form: Form) -> None:
        super().__init__()
        if form == "fused":
            self.fused = Convolution(in_channels, out_channels, 7, stride=2, groups=in_channels, bias=True)
            return
        self.large = ConvNorm(in_channels, out_channels, 7, stride=2, groups=in_channels)
        self.small = ConvNorm(in_channels, out_channels, 3, stride=2, groups=in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x in x H x W to B x out x H/2 x W/2."""
        if hasattr(self, "fused"):
            fused: Tensor = self.fused(x)
            return fused
        if _learns_as_one(self):
            return _as_one(x, self.merged_kernel(_sum_dtype(x)), stride=2, groups=x.shape[1])
        return normalised_sum(
            [self.large.conv(x), self.small.conv(x)], [Branch(0, self.large.norm), Branch(1, self.small.norm)]
        )

    def merged_kernel(self, dtype: torch.dtype = torch.float64) -> Kernel:
        """Both kernels as one of 7 x 7."""
        return _sum_kernels([self.large.merged_kernel(dtype), self.small.merged_kernel(dtype)], 7)


class RepMixer(nn.Module):
    """Mixes tokens by x + scale * (mixer(x) - norm(x)); fused, a single depthwise 3 x 3 convolution."""

    def __init__(self, channels: int, *, layer_scale_init: float, form: Form) -> None:
        super().__init__()
        self.channels = channels
        if form == "fused":
            self.fused = Convolution(channels, channels, 3, groups=channels, bias=True)
            return
        self.mixer = MobileOneBlock(channels, channels, 3, groups=channels, form="train")
        self.norm = MobileOneBlock(
            channels, channels, 3, groups=channels, has_conv_branch=False, has_scale_branch=False, form="train"
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), layer_scale_init))

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        if hasattr(self, "fused"):
            fused: Tensor = self.fused(x)
            return fused
        if _learns_as_one(self):
            return _as_one(x, self.merged_kernel(_sum_dtype(x)), stride=1, groups=self.channels)
        assert self.norm.skip is not None
        maps, branches = self.mixer.branches(x)
        share = self.layer_scale.flatten()
        shared = [branch._replace(share=share) for branch in branches]
        return normalised_sum(maps, [*shared, Branch(0, self.norm.skip, share=-share)], has_residual=True)

    def merged_kernel(self, dtype: torch.dtype = torch.float64) -> Kernel:
        """The whole mixer, its residual included, as one depthwise convolution."""
        mixer, norm = self.mixer.merged_kernel(dtype), self.norm.merged_kernel(dtype)
        scale = self.layer_scale.to(dtype)
        weight = scale[:, None] * (mixer.weight - norm.weight)
        return Kernel(weight + _identity_weight(weight), scale[:, 0, 0] * (mixer.bias - norm.bias))


class RepPositionEncoding(nn.Module):
    """Adds a depthwise 7 x 7 convolution to its input: positions that follow any height and width (RepCPE)."""

    def __init__(self, channels: int, *, form: Form) -> None:
        super().__init__()
        conv = Convolution(channels, channels, 7, groups=channels, bias=True)
        if form == "fused":
            self.fused = conv
        else:
            self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        out: Tensor = self.fused(x) if hasattr(self, "fused") else x + self.conv(x)
        return out

    def merged_kernel(self, dtype: torch.dtype = torch.float64) -> Kernel:
        """The convolution with the identity added to its kernel's centre."""
        assert self.conv.bias is not None
        weight = self.conv.weight.to(dtype)
        return Kernel(weight + _identity_weight(weight), self.conv.bias.to(dtype))


Reparameterizable = MobileOneBlock | LargeKernelConv | RepMixer | RepPositionEncoding


@torch.no_grad()
def copy_fused(source: nn.Module, target: nn.Module) -> None:
    """Fill `target`, the fused form, from `source`, the train form of the same network."""
    if isinstance(source, Reparameterizable):
        kernel = source.merged_kernel()
        fused = target.get_submodule("fused")
        fused.get_parameter("weight").copy_(kernel.weight)
        fused.get_parameter("bias").copy_(kernel.bias)
        return
    own = dict(source.named_parameters(recurse=False)) | dict(source.named_buffers(recurse=False))
    for name, tensor in own.items():
        getattr(target, name).copy_(tensor)
    for name, child in source.named_children():
        copy_fused(child, target.get_submodule(name))


def _learns_as_one(block: nn.Module) -> bool:
    """Whether gradients are wanted and no statistics are: then branches need no maps of their own."""
    return torch.is_grad_enabled() and not any(
        part.training for part in block.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    )


def _sum_dtype(x: Tensor) -> torch.dtype:
    """What branches are added up in: eight bits would lose of the sum what each of them keeps."""
    return torch.promote_types(x.dtype, torch.float32)


def _as_one(x: Tensor, kernel: Kernel, *, stride: int, groups: int) -> Tensor:
    return convolve(x, kernel.weight.to(x.dtype), kernel.bias.to(x.dtype), stride=stride, groups=groups)


def _norm_scale_and_shift(norm: nn.BatchNorm2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.to(dtype) / torch.sqrt(norm.running_var.to(dtype) + norm.eps)
    return scale, norm.bias.to(dtype) - norm.running_mean.to(dtype) * scale


def _identity_norm_kernel(norm: nn.BatchNorm2d, groups: int, dtype: torch.dtype) -> Kernel:
    scale, shift = _norm_scale_and_shift(norm, dtype)
    channels_per_group = norm.num_features // groups
    weight = torch.eye(channels_per_group, dtype=dtype, device=scale.device).repeat(groups, 1) * scale[:, None]
    return Kernel(weight[:, :, None, None], shift)


def _identity_weight(like: Tensor) -> Tensor:
    """A depthwise kernel of the shape of `like` that copies its input."""
    weight = torch.zeros_like(like)
    weight[:, 0, like.shape[2] // 2, like.shape[3] // 2] = 1
    return weight


def _sum_kernels(kernels: list[Kernel], kernel_size: int) -> Kernel:
    weights = [_center(kernel.weight, kernel_size) for kernel in kernels]
    # One by one: the gradient of a stack's sum is one storage for all, into which autograd would add up every branch's.
    return Kernel(reduce(torch.add, weights), reduce(torch.add, [kernel.bias for kernel in kernels]))


def _center(weight: Tensor, kernel_size: int) -> Tensor:
    border = (kernel_size - weight.shape[-1]) // 2
    return F.pad(weight, (border, border, border, border))
