"""The encoder at full size, in numbers; and small ones on pictures of several sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch

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


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "groups"), [(4, 8, 4), (4, 8, 2), (4, 4, 4), (4, 8, 1), (1, 3, 1)]
)
def test_repeated_inputs_give_the_convolution_and_its_gradients(
    in_channels: int, out_channels: int, groups: int
) -> None:
    torch.manual_seed(0)
    block = ConvNorm(in_channels, out_channels, 3, stride=2, groups=groups).eval()
    got, expected = (torch.randn(2, in_channels, 8, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    outputs = block(got.requires_grad_()), block.norm(block.conv(expected.requires_grad_()))
    torch.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(got.grad, expected.grad)
