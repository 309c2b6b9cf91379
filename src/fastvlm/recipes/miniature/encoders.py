"""Encoders of about the same size for the miniature: FastViTHD, a ViT and a ConvNeXt (paper sections 3.1 and 3.2).

The last two follow their papers, but for what matters to large networks: no layer scale, no stochastic depth, no class
token. All begin with the same small random weights in their perceptrons. Nothing here is meant for use elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vision.fastvithd import ChannelLayerNorm, FastViTHD, SelfAttention

EncoderName = Literal["fastvithd", "fastvithd-multi-scale", "vit", "convnext"]

FASTVITHD = FastViTHDConfig(depths=(1, 1, 4, 2, 1), widths=(16, 32, 64, 128, 256), layer_scale_init=1.0, form="train")
VIT_PATCH_PX, VIT_WIDTH, VIT_DEPTH = 16, 128, 7
CONVNEXT_DEPTHS, CONVNEXT_WIDTHS = (1, 1, 6, 1), (32, 64, 128, 256)
HEAD_DIM = 32


@dataclass(frozen=True)
class EncoderShape:
    """stride_px: of a visual token. width: of a visual token. mapped: by the number of a map, its stride and width."""

    stride_px: int
    width: int
    mapped: dict[int, tuple[int, int]]


def build_encoder(name: EncoderName) -> tuple[nn.Module, EncoderShape]:
    """An encoder with random weights, and what its maps are: `forward_stages` gives them, visual tokens last."""
    if name == "vit":
        return ViT(), EncoderShape(
            VIT_PATCH_PX, VIT_WIDTH, {0: (VIT_PATCH_PX, VIT_WIDTH), 1: (VIT_PATCH_PX, VIT_WIDTH)}
        )
    if name == "convnext":
        widths = CONVNEXT_WIDTHS
        return ConvNeXt(), EncoderShape(32, widths[3], {number: (4 << number, widths[number]) for number in (1, 2, 3)})
    multi_scale: Literal["average", "none"] = "average" if name == "fastvithd-multi-scale" else "none"
    config = FastViTHDConfig(
        depths=FASTVITHD.depths, widths=FASTVITHD.widths, layer_scale_init=1.0, form="train", multi_scale=multi_scale
    )
    mapped = {number: (4 << number, config.widths[number]) for number in (1, 2, 3)}
    return FastViTHD(config), EncoderShape(64, config.output_width, {**mapped, 4: (64, config.output_width)})


class ViT(nn.Module):
    """A Vision Transformer (Dosovitskiy et al., 2021) with fixed sine positions, so that it takes any resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, VIT_WIDTH, VIT_PATCH_PX, VIT_PATCH_PX)
        self.blocks = nn.ModuleList(ViTBlock(VIT_WIDTH) for _ in range(VIT_DEPTH))
        self.norm = ChannelLayerNorm(VIT_WIDTH)
        self.apply(_begin)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map B x 3 x H x W to B x width x H/16 x W/16."""
        return self.forward_stages(pixels)[-1]

    def forward_stages(self, pixels: Tensor) -> list[Tensor]:
        """The map in the middle of the network, and the output."""
        x = self.patches(pixels)
        x = x + sine_positions(x.shape[2], x.shape[3], VIT_WIDTH).to(x.device)
        maps: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number == (VIT_DEPTH + 1) // 2:
                maps.append(x)
        return [*maps, self.norm(x)]


class ViTBlock(nn.Module):
    """Attention and a perceptron, each after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = ChannelLayerNorm(width), SelfAttention(width, head_dim=HEAD_DIM)
        self.second_norm = ChannelLayerNorm(width)
        self.expand, self.contract = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        x = x + self.attention(self.norm(x))
        out: Tensor = x + self.contract(F.gelu(self.expand(self.second_norm(x))))
        return out


def sine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of the row in one half of the channels, of the column in the other: width x rows x columns."""
    rates = torch.exp(-math.log(100.0) * torch.arange(width // 4) / (width // 4))
    down = torch.arange(rows)[:, None] * rates
    across = torch.arange(columns)[:, None] * rates
    by_row = torch.cat([down.sin(), down.cos()], 1).T[:, :, None].expand(-1, -1, columns)
    by_column = torch.cat([across.sin(), across.cos()], 1).T[:, None, :].expand(-1, rows, -1)
    return torch.cat([by_row, by_column])


class ConvNeXt(nn.Module):
    """A ConvNeXt (Liu et al., 2022) of four stages."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *CONVNEXT_WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *self._downsampling(widths[number], widths[number + 1], is_stem=number == 0),
                *(ConvNeXtBlock(widths[number + 1]) for _ in range(depth)),
            )
            for number, depth in enumerate(CONVNEXT_DEPTHS)
        )
        self.norm = ChannelLayerNorm(widths[-1])
        self.apply(_begin)

    @staticmethod
    def _downsampling(in_width: int, out_width: int, *, is_stem: bool) -> tuple[nn.Module, nn.Module]:
        if is_stem:
            return nn.Conv2d(in_width, out_width, 4, 4), ChannelLayerNorm(out_width)
        return ChannelLayerNorm(in_width), nn.Conv2d(in_width, out_width, 2, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map B x 3 x H x W to B x width x H/32 x W/32."""
        return self.forward_stages(pixels)[-1]

    def forward_stages(self, pixels: Tensor) -> list[Tensor]:
        """The map of each stage, the last one normalised."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else pixels))
        return [*maps[:-1], self.norm(maps[-1])]


class ConvNeXtBlock(nn.Module):
    """A depthwise 7 x 7 convolution, then a perceptron after a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), ChannelLayerNorm(width)
        self.expand, self.contract = nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        out: Tensor = x + self.contract(F.gelu(self.expand(self.norm(self.spatial(x)))))
        return out


def _begin(module: nn.Module) -> None:
    """Begin perceptrons as FastViTHD's do."""
    if isinstance(module, ViTBlock | ConvNeXtBlock):
        for layer in (module.expand, module.contract):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
