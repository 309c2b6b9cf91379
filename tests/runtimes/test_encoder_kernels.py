"""The encoder and the projector in C++: the numbers of the plain model, for pictures of any size and number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvlm.batches import PixelTiles
from fastvlm.checkpoints.arrays import Weights
from fastvlm.checkpoints.tensors import StoredTensor
from fastvlm.errors import CheckpointError
from fastvlm.models.config import VLMConfig
from fastvlm.models.language.config import DecoderConfig
from fastvlm.models.vision.config import FastViTHDConfig
from fastvlm.models.vlm import FastVLM
from fastvlm.runtimes.kernels import library
from fastvlm.runtimes.kernels.encoder import KernelEncoder
from fastvlm.runtimes.kernels.encoder_packing import suits
from fastvlm.runtimes.openvino.calibration import measure_ranges
from fastvlm.runtimes.openvino.runtime import OpenVINORuntime
from fastvlm.runtimes.protocol import WeightFormat
from fastvlm.tiles import TileLayout
from support.runtimes import random_model, stored_tensors, tiles

REASON = library.reason_against()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no kernels here: {REASON}")

# Channels that fill half a panel and more than one, patch embeddings that widen by one, two and three.
CONFIG = VLMConfig(
    vision=FastViTHDConfig(
        depths=(1, 2, 1, 2, 1), widths=(16, 32, 32, 96, 192), layer_scale_init=0.1, expansion_ratio=3.0,
        squeeze_ratio=1 / 36, head_dim=32,
    ),
    decoder=DecoderConfig(
        vocabulary_size=97, width=64, num_layers=1, num_heads=2, num_key_value_heads=2, feed_forward_width=64,
        head_dim=32, max_positions=128,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> FastVLM:
    return random_model(CONFIG).eval()


@pytest.fixture(scope="module")
def tensors(model: FastVLM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredTensor]:
    return stored_tensors(model, tmp_path_factory.mktemp("weights"))


def tokens_of(encoder: KernelEncoder, image: PixelTiles) -> np.ndarray:
    encoder.encode(image.levels, image.table)
    return encoder.project()


@pytest.mark.parametrize(
    "layout",
    [
        TileLayout(128, 128),
        TileLayout(64, 192),
        TileLayout(448, 64),
        TileLayout(320, 256),
        TileLayout(64, 128, grid_rows=1, grid_columns=2, has_overview=True),
        TileLayout(64, 64),
    ],
)
@pytest.mark.parametrize("weight_format", [None, "int8"])
def test_the_kernels_are_as_near_to_the_plain_model_as_openvino_is(
    model: FastVLM, tensors: dict[str, StoredTensor], layout: TileLayout, weight_format: WeightFormat | None
) -> None:
    """Beside how far tokens differ from each other, and not beside what they share; over pictures that scatter."""
    images = [tiles(layout, seed) for seed in range(4)]
    ranges = None if weight_format is None else measure_ranges(CONFIG, tensors, images)
    ours = KernelEncoder(CONFIG, Weights(tensors), ranges=ranges, num_threads=2)
    other = OpenVINORuntime(CONFIG, tensors, weight_format=weight_format, encoder_ranges=ranges)
    errors = []
    for image in images:
        with torch.no_grad():
            expected = model.encode(torch.from_numpy(image.pixels)).flatten(0, 1).numpy()
        found = tokens_of(ours, image)
        assert found.shape == expected.shape
        scale = np.linalg.norm(expected - (expected.mean(0) if len(expected) > 1 else 0))
        errors.append([np.linalg.norm(tokens - expected) / scale for tokens in (found, other.encode(image).data)])
    mean, other_mean = np.mean(errors, axis=0)
    assert 0 < mean < max(1.5 * other_mean, 0.02) < 0.4, errors
    assert max(own for own, _ in errors) < max(2.5 * other_mean, 0.03), errors


@pytest.mark.parametrize("in_eight_bits", [False, True])
def test_numbers_depend_neither_on_threads_nor_on_what_was_encoded_before_or_beside(
    tensors: dict[str, StoredTensor], in_eight_bits: bool
) -> None:
    images = [tiles(TileLayout(192, 128), seed) for seed in range(3)]
    given = measure_ranges(CONFIG, tensors, images) if in_eight_bits else None
    other = tiles(TileLayout(64, 320))
    encoder = KernelEncoder(CONFIG, Weights(tensors), ranges=given, num_threads=3)
    all_levels = np.concatenate([image.levels for image in images])
    together = tokens_of(encoder, replace(images[0], levels=all_levels)).reshape(3, -1, CONFIG.decoder.width)
    for picture, found in zip(images, together, strict=True):
        tokens_of(encoder, other)
        np.testing.assert_array_equal(tokens_of(encoder, picture), found)
        alone = KernelEncoder(CONFIG, Weights(tensors), ranges=given, num_threads=1)
        np.testing.assert_array_equal(tokens_of(alone, picture), found)


@pytest.mark.parametrize("in_eight_bits", [False, True])
@pytest.mark.parametrize(("height_px", "width_px"), [(320, 448), (576, 576)])
def test_an_odd_number_of_positions(in_eight_bits: bool, height_px: int, width_px: int, tmp_path: Path) -> None:
    """Values are read in pairs: beside the last one lies what the layer before has left there."""
    vision = replace(CONFIG.vision, widths=(16, 32, 96, 192, 384), squeeze_ratio=1 / 24, expansion_ratio=2.0)
    config = replace(CONFIG, vision=vision)
    tensors = stored_tensors(random_model(config).eval(), tmp_path)
    image = tiles(TileLayout(height_px, width_px))
    ranges = measure_ranges(config, tensors, [image]) if in_eight_bits else None
    found = [
        tokens_of(encoder, image)
        for encoder in (KernelEncoder(config, Weights(tensors), ranges=ranges, num_threads=n) for n in (1, 2, 3))
        for _ in range(2)
    ]
    for again in found[1:]:
        np.testing.assert_array_equal(again, found[0])
    exact = OpenVINORuntime(config, tensors, dtype="float32").encode(image).data
    other = OpenVINORuntime(
        config, tensors, weight_format="int8" if in_eight_bits else None, encoder_ranges=ranges
    ).encode(image)
    errors = [np.linalg.norm(tokens - exact) / np.linalg.norm(exact) for tokens in (found[0], other.data)]
    assert errors[0] < max(1.5 * errors[1], 0.02), errors


def test_a_layer_without_a_range_is_told(tensors: dict[str, StoredTensor]) -> None:
    ranges = measure_ranges(CONFIG, tensors, [tiles(TileLayout(64, 64))])
    known = {name: reach for name, reach in ranges.items() if name != "stages.2.blocks.0.feed_forward.expand"}
    with pytest.raises(CheckpointError, match=r"stages\.2\.blocks\.0\.feed_forward\.expand"):
        KernelEncoder(CONFIG, Weights(tensors), ranges=known, num_threads=1)


def test_packed_weights_are_the_same_from_a_file(tensors: dict[str, StoredTensor], tmp_path: Path) -> None:
    image = tiles(TileLayout(64, 128))
    expected = tokens_of(KernelEncoder(CONFIG, Weights(tensors), num_threads=2), image)
    for _ in range(2):
        encoder = KernelEncoder(CONFIG, Weights(tensors), path=tmp_path / "packed.blob", num_threads=2)
        np.testing.assert_array_equal(tokens_of(encoder, image), expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"widths": (24, 48, 96, 192, 384)},
        {"widths": (16, 32, 48, 96, 192)},
        {"expansion_ratio": 1.5},
        {"multi_scale": "average"},
        {"form": "train"},
        {"head_dim": 8},
        {"head_dim": 64},
    ],
)
def test_other_shapes_are_left_to_openvino(changed: dict[str, object]) -> None:
    assert suits(CONFIG.vision) and suits(FastViTHDConfig())
    assert not suits(replace(CONFIG.vision, **changed))
