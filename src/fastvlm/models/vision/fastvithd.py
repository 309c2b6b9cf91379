"""FastViTHD, the hybrid convolution-transformer encoder of FastVLM (paper section 3.2 and appendix B).

Read downwards it is the paper's figure 2: a stem that divides each side by 4, five stages with a strided patch
embedding between them, RepMixer blocks in the first three and attention in the last two, and a final expansion. One
visual token stands for 64 x 64 pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastvlm.models import recompute
from fastvlm.models.attention import attend
from fastvlm.models.vision.config import FastViTHDConfig, Form, TokenMixer
from fastvlm.models.vision.convolution import Convolution, for_products
from fastvlm.models.vision.multi_scale import MultiScaleAggregation
from fastvlm.models.vision.reparameterizable import (
    ConvNorm,
    LargeKernelConv,
    MobileOneBlock,
    RepMixer,
    RepPositionEncoding,
    copy_fused,
)


class FastViTHD(nn.Module):
    """Turns pixels into a map of visual tokens, one for every 64 x 64 pixels.

    recomputes: in training, blocks keep their inputs alone and compute the rest again on the way back, but for blocks
    that learn statistics.
    """

    def __init__(self, config: FastViTHDConfig) -> None:
        super().__init__()
        self.config = config
        self.recomputes = False
        self.stem = Stem(config.widths[0], form=config.form)
        self.stages = nn.ModuleList(
            Stage(
                config.widths[index],
                previous_width=config.widths[index - 1] if index else None,
                depth=config.depths[index],
                token_mixer=config.token_mixers[index],
                config=config,
            )
            for index in range(len(config.depths))
        )
        self.expansion = Expansion(config)
        self.multi_scale = (
            None
            if config.multi_scale == "none"
            else MultiScaleAggregation(config.widths[1:-1], pooling=config.multi_scale)
        )
        self.clip_head = None if config.clip_dim is None else ClipHead(self.expansion.out_channels, config.clip_dim)
        self.apply(_init_weights)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map B x 3 x H x W, values as the checkpoint's mean and std leave them, to B x output_width x H/64 x W/64."""
        return self.forward_stages(pixels)[-1]

    def forward_stages(self, pixels: Tensor) -> list[Tensor]:
        """The map after each stage and, last, the encoder's output (whose grid is the last stage's)."""
        x = self.stem(pixels)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x, recomputes=self.recomputes)
            maps.append(x)
        output = self.expansion(x)
        if self.multi_scale is not None:
            output = self.multi_scale(maps[1:-1], output)
        return [*maps, output]

    def clip_embedding(self, pixels: Tensor) -> Tensor:
        """Map B x 3 x H x W to B x clip_dim, not normalised: the pooled map through the CLIP head."""
        if self.clip_head is None:
            raise ValueError("This encoder was built without a CLIP head; set clip_dim in its configuration.")
        embedding: Tensor = self.clip_head(self(pixels)[:, : self.expansion.out_channels])
        return embedding


class Stem(nn.Module):
    """Three MobileOne blocks that divide each side by 4."""

    def __init__(self, width: int, *, form: Form) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            (
                MobileOneBlock(3, width, 3, stride=2, has_scale_branch=False, form=form),
                MobileOneBlock(width, width, 3, stride=2, groups=width, has_scale_branch=False, form=form),
                MobileOneBlock(width, width, 1, form=form),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map B x 3 x H x W to B x C x H/4 x W/4."""
        for block in self.blocks:
            x = F.gelu(block(x))
        return x


class Stage(nn.Module):
    """A patch embedding (but for the first stage), a position encoding (before attention) and blocks."""

    def __init__(
        self,
        width: int,
        *,
        previous_width: int | None,
        depth: int,
        token_mixer: TokenMixer,
        config: FastViTHDConfig,
    ) -> None:
        super().__init__()
        form = config.form
        self.patch_embedding = None if previous_width is None else PatchEmbedding(previous_width, width, form=form)
        self.position_encoding = RepPositionEncoding(width, form=form) if token_mixer == "attention" else None
        block = AttentionBlock if token_mixer == "attention" else RepMixerBlock
        self.blocks = nn.ModuleList(block(width, config=config) for _ in range(depth))

    def forward(self, x: Tensor, *, recomputes: bool = False) -> Tensor:
        """Map B x C x H x W to B x width x H/2 x W/2, or to the same size in the first stage."""
        if self.patch_embedding is not None:
            x = self.patch_embedding(x)
        if self.position_encoding is not None:
            x = self.position_encoding(x)
        for block in self.blocks:
            x = recompute.apply(block, x, is_recomputed=recomputes)
        return x


class PatchEmbedding(nn.Module):
    """Halves each side and widens the channels: strided depthwise 7 x 7, then 1 x 1."""

    def __init__(self, in_channels: int, out_channels: int, *, form: Form) -> None:
        super().__init__()
        self.spatial = LargeKernelConv(in_channels, out_channels, form=form)
        self.pointwise = MobileOneBlock(out_channels, out_channels, 1, form=form)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x in x H x W to B x out x H/2 x W/2."""
        return F.gelu(self.pointwise(F.gelu(self.spatial(x))))


class RepMixerBlock(nn.Module):
    """Convolutional token mixing, then ConvFFN with a layer scale."""

    def __init__(self, width: int, *, config: FastViTHDConfig) -> None:
        super().__init__()
        self.token_mixer = RepMixer(width, layer_scale_init=config.layer_scale_init, form=config.form)
        self.feed_forward = ConvFeedForward(width, ratio=config.feed_forward_ratio)
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), config.layer_scale_init))

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        x = self.token_mixer(x)
        out: Tensor = x + self.layer_scale * self.feed_forward(x)
        return out


class AttentionBlock(nn.Module):
    """Multi-headed self-attention over all positions of the map, then ConvFFN, each with a layer scale."""

    def __init__(self, width: int, *, config: FastViTHDConfig) -> None:
        super().__init__()
        self.norm = ChannelLayerNorm(width)
        self.attention = SelfAttention(width, head_dim=config.head_dim)
        self.feed_forward = ConvFeedForward(width, ratio=config.feed_forward_ratio)
        self.attention_scale = nn.Parameter(torch.full((width, 1, 1), config.layer_scale_init))
        self.feed_forward_scale = nn.Parameter(torch.full((width, 1, 1), config.layer_scale_init))

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        x = x + self.attention_scale * self.attention(self.norm(x))
        out: Tensor = x + self.feed_forward_scale * self.feed_forward(x)
        return out


class ConvFeedForward(nn.Module):
    """A depthwise 7 x 7 convolution with BatchNorm, then a two-layer perceptron on each position (ConvFFN)."""

    def __init__(self, width: int, *, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.spatial = ConvNorm(width, width, 7, groups=width)
        self.expand = Convolution(width, hidden, 1, bias=True)
        self.contract = Convolution(hidden, width, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        out: Tensor = self.contract(F.gelu(self.expand(for_products(self.spatial(x)))))
        return out


class SelfAttention(nn.Module):
    """Softmax attention among the H x W positions of a map, without bias on query, key and value."""

    def __init__(self, width: int, *, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).view(batch, height * width, 3, channels // self.head_dim, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.output(mixed).transpose(1, 2).unflatten(2, (height, width))
        return out


class ChannelLayerNorm(nn.Module):
    """LayerNorm over the channels of each position of a map."""

    def __init__(self, width: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        last = x.movedim(1, -1)
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, self.epsilon).movedim(-1, 1)


class Expansion(nn.Module):
    """Doubles the channels of the last map with a depthwise convolution and squeeze-excite (`conv_exp`)."""

    def __init__(self, config: FastViTHDConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.out_channels = int(width * config.expansion_ratio)
        self.conv = MobileOneBlock(width, self.out_channels, 3, groups=width, form=config.form)
        self.squeeze_excite = SqueezeExcite(self.out_channels, ratio=config.squeeze_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to B x out_channels x H x W."""
        return F.gelu(self.squeeze_excite(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Weighs each channel by what the whole map holds."""

    def __init__(self, channels: int, *, ratio: float) -> None:
        super().__init__()
        squeezed = int(channels * ratio)
        self.reduce = Convolution(channels, squeezed, 1, bias=True)
        self.expand = Convolution(squeezed, channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to the same shape."""
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(pooled))))


class ClipHead(nn.Module):
    """Averages the map over its positions and projects it into the space shared with text (GlobalPool2D)."""

    def __init__(self, channels: int, clip_dim: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(channels, clip_dim) * channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x C x H x W to B x clip_dim."""
        return x.mean((2, 3)) @ self.projection


def fuse(encoder: FastViTHD) -> FastViTHD:
    """Return the fused form of a train-form encoder, in evaluation mode: equal outputs, one convolution a block.

    As in the released checkpoints, the BatchNorm of each ConvFFN stays. A fused encoder is returned as it is.
    """
    if encoder.config.form == "fused":
        return encoder
    parameter = next(encoder.parameters())
    fused = FastViTHD(replace(encoder.config, form="fused")).to(device=parameter.device, dtype=parameter.dtype)
    copy_fused(encoder, fused)
    return fused.eval()


def _init_weights(module: nn.Module) -> None:
    """Initialise as FastViT does: small normal for 1 x 1 and linear layers and ConvFFN, torch's default elsewhere."""
    if isinstance(module, ConvFeedForward):
        for layer in (module.spatial.conv, module.expand, module.contract):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
