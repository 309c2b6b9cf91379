"""Convolutions that train with parallel branches and run as one (MobileOne; paper section 3.2 and appendix B).

Every block has two forms. In the form `train` it sums branches, each followed by BatchNorm; in the form `fused` it
is a single convolution with a bias, `fused`, whose kernel `merged_kernel()` of the train form computes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models.vision.config import Form


class Kernel(NamedTuple):
    """A convolution's weight, out x in/groups x k x k, and bias, out; in float64 while branches are summed."""

    weight: Tensor
    bias: Tensor


class _MultiplyingConv(nn.Conv2d):
    """Depthwise with several outputs for each input, without bias.

    torch has a slow path for its gradient, and a fast one, with the same numbers, for one output for each input.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, _bias: Tensor | None) -> Tensor:
        multiplier = self.out_channels // self.groups
        outputs = [
            F.conv2d(input, weight[index::multiplier], None, self.stride, self.padding, groups=self.groups)
            for index in range(multiplier)
        ]
        # Joined with the channels innermost, as training and fast convolutions have them.
        return torch.stack([output.movedim(1, -1) for output in outputs], -1).flatten(-2).movedim(-1, 1)


class ConvNorm(nn.Module):
    """A convolution without bias, then BatchNorm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        multiplies = groups == in_channels and out_channels > in_channels
        self.conv = (_MultiplyingConv if multiplies else nn.Conv2d)(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x in x H x W to B x out x H/stride x W/stride."""
        out: Tensor = self.norm(self.conv(x))
        return out

    def merged_kernel(self) -> Kernel:
        """The one convolution that equals this pair in evaluation mode."""
        scale, shift = _norm_scale_and_shift(self.norm)
        return Kernel(self.conv.weight.double() * scale[:, None, None, None], shift)


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
        self.in_channels, self.kernel_size, self.groups = in_channels, kernel_size, groups
        if form == "fused":
            self.fused = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups)
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
        branches = [branch for branch in (self.conv, self.scale, self.skip) if branch is not None]
        total: Tensor = branches[0](x)
        for branch in branches[1:]:
            total = total + branch(x)
        return total

    def merged_kernel(self) -> Kernel:
        """The sum of the branches as one convolution."""
        kernels = [branch.merged_kernel() for branch in (self.conv, self.scale) if branch is not None]
        if self.skip is not None:
            kernels.append(_identity_norm_kernel(self.skip, self.groups))
        return _sum_kernels(kernels, self.kernel_size)


class LargeKernelConv(nn.Module):
    """A strided depthwise convolution with a small kernel beside the large one while it trains (patch embedding)."""

    def __init__(self, in_channels: int, out_channels: int, *, form: Form) -> None:
        super().__init__()
        if form == "fused":
            self.fused = nn.Conv2d(in_channels, out_channels, 7, 2, 3, groups=in_channels)
            return
        self.large = ConvNorm(in_channels, out_channels, 7, stride=2, groups=in_channels)
        self.small = ConvNorm(in_channels, out_channels, 3, stride=2, groups=in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x in x H x W to B x out x H/2 x W/2."""
        out: Tensor = self.fused(x) if hasattr(self, "fused") else self.large(x) + self.small(x)
        return out

    def merged_kernel(self) -> Kernel:
        """Both kernels as one of 7 x 7."""
        return _sum_kernels([self.large.merged_kernel(), self.small.merged_kernel()], 7)


class RepMixer(nn.Module):
    """Mixes tokens by x + scale * (mixer(x) - norm(x)); fused, a single depthwise 3 x 3 convolution."""

    def __init__(self, channels: int, *, layer_scale_init: float, form: Form) -> None:
        super().__init__()
        self.channels = channels
        if form == "fused":
            self.fused = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            return
        self.mixer = MobileOneBlock(channels, channels, 3, groups=channels, form="train")
        self.norm = MobileOneBlock(
            channels, channels, 3, groups=channels, has_conv_branch=False, has_scale_branch=False, form="train"
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), layer_scale_init))

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        out: Tensor = self.fused(x) if hasattr(self, "fused") else x + self.layer_scale * (self.mixer(x) - self.norm(x))
        return out

    def merged_kernel(self) -> Kernel:
        """The whole mixer, its residual included, as one depthwise convolution."""
        mixer, norm = self.mixer.merged_kernel(), self.norm.merged_kernel()
        scale = self.layer_scale.double()
        weight = scale[:, None] * (mixer.weight - norm.weight)
        return Kernel(weight + _identity_weight(weight), scale[:, 0, 0] * (mixer.bias - norm.bias))


class RepPositionEncoding(nn.Module):
    """Adds a depthwise 7 x 7 convolution to its input: positions that follow any height and width (RepCPE)."""

    def __init__(self, channels: int, *, form: Form) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        if form == "fused":
            self.fused = conv
        else:
            self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        out: Tensor = self.fused(x) if hasattr(self, "fused") else x + self.conv(x)
        return out

    def merged_kernel(self) -> Kernel:
        """The convolution with the identity added to its kernel's centre."""
        assert self.conv.bias is not None
        weight = self.conv.weight.double()
        return Kernel(weight + _identity_weight(weight), self.conv.bias.double())


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


def _norm_scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _identity_norm_kernel(norm: nn.BatchNorm2d, groups: int) -> Kernel:
    scale, shift = _norm_scale_and_shift(norm)
    channels_per_group = norm.num_features // groups
    weight = torch.eye(channels_per_group, dtype=torch.float64).repeat(groups, 1) * scale[:, None]
    return Kernel(weight[:, :, None, None], shift)


def _identity_weight(like: Tensor) -> Tensor:
    """A depthwise kernel of the shape of `like` that copies its input."""
    weight = torch.zeros_like(like)
    weight[:, 0, like.shape[2] // 2, like.shape[3] // 2] = 1
    return weight


def _sum_kernels(kernels: list[Kernel], kernel_size: int) -> Kernel:
    weights = [_center(kernel.weight, kernel_size) for kernel in kernels]
    return Kernel(torch.stack(weights).sum(0), torch.stack([kernel.bias for kernel in kernels]).sum(0))


def _center(weight: Tensor, kernel_size: int) -> Tensor:
    border = (kernel_size - weight.shape[-1]) // 2
    return F.pad(weight, (border, border, border, border))
