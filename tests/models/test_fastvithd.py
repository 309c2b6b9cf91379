"""The encoder at full size, in numbers; and small ones on pictures of several sizes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
import torch
from torch.nn import functional as F

from fastvlm.checkpoints.load import WithoutInitialisation
from fastvlm.models.vision.config import PRESETS, FastViTHDConfig
from fastvlm.models.vision.fastvithd import FastViTHD, SqueezeExcite
from fastvlm.models.vision.reparameterizable import ConvNorm

SMALL = FastViTHDConfig(depths=(1, 1, 1, 1, 1), widths=(8, 16, 32, 64, 64), layer_scale_init=0.5)


def encoder_of(config: FastViTHDConfig) -> FastViTHD:
    torch.manual_seed(0)
    return FastViTHD(config).eval()


@pytest.mark.parametrize(("preset", "num_millions"), [("fastvithd-clip", 125.07), ("fastvithd", 122.71)])
def test_the_papers_encoder_has_the_papers_number_of_parameters(preset: str, num_millions: float) -> None:
    with torch.device("meta"), WithoutInitialisation():
        encoder = FastViTHD(PRESETS[preset])
    assert encoder.config.form == "fused"
    assert sum(parameter.numel() for parameter in encoder.parameters()) / 1e6 == pytest.approx(num_millions, abs=0.005)


@pytest.mark.parametrize("multi_scale", ["average", "depthwise"])
@torch.no_grad()
def test_multi_scale_maps_have_the_announced_width_at_every_size(multi_scale: Literal["average", "depthwise"]) -> None:
    config = replace(SMALL, multi_scale=multi_scale, clip_dim=24)
    encoder = encoder_of(config)
    plain = encoder_of(replace(config, multi_scale="none"))
    for height_px, width_px in ((64, 128), (192, 64)):
        pixels = torch.rand(2, 3, height_px, width_px)
        output = encoder(pixels)
        assert output.shape == (2, config.output_width, height_px // 64, width_px // 64)
        assert output.shape[1] == plain.config.output_width + sum(config.widths[1:-1])
        assert output[:, -config.widths[-2] :].abs().max() > 0, "the appended channels hold the earlier stages"
        assert encoder.clip_embedding(pixels).shape == (2, 24), "the head reads the last stage's channels only"


@torch.no_grad()
def test_pitfall_b16_one_encoder_serves_every_size() -> None:
    """No shape is frozen by the first picture, neither in squeeze-excite nor anywhere else."""
    encoder = encoder_of(SMALL)
    small, large = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 192, 128)
    alone = {pixels: encoder_of(SMALL)(pixels) for pixels in (small, large)}
    for pixels in (small, large, small):
        assert torch.equal(encoder(pixels), alone[pixels])
    squeeze_excite = next(module for module in encoder.modules() if isinstance(module, SqueezeExcite))
    channels = squeeze_excite.reduce.in_channels
    for size in (1, 2, 3):
        features = torch.rand(1, channels, size, size + 1)
        mean = features.mean((2, 3), keepdim=True)
        weight = squeeze_excite.expand(squeeze_excite.reduce(mean).relu()).sigmoid()
        assert torch.allclose(squeeze_excite(features), features * weight), "the mean is over the whole map"


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "groups", "stride"),
    [(4, 8, 4, 2), (8, 24, 8, 1), (8, 24, 8, 2), (4, 8, 2, 2), (4, 4, 4, 1), (4, 8, 1, 2), (1, 3, 1, 1)],
)
def test_convolutions_and_their_gradients_are_those_of_torch(
    in_channels: int, out_channels: int, groups: int, stride: int, memory_format: torch.memory_format
) -> None:
    """Several outputs for each input go a way of their own, which is faster."""
    torch.manual_seed(0)
    layer = ConvNorm(in_channels, out_channels, 7, stride=stride, groups=groups).conv
    pixels = torch.randn(2, in_channels, 9, 12).to(memory_format=memory_format)
    plain = partial(F.conv2d, weight=layer.weight, stride=stride, padding=3, groups=groups)
    gradients = []
    for convolve in (layer, plain):
        given = pixels.clone().requires_grad_()
        output = convolve(given)
        layer.weight.grad = None
        (output * torch.linspace(-1, 1, output.numel()).view(output.shape)).sum().backward()
        gradients.append((output.detach(), given.grad, layer.weight.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
