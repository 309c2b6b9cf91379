"""Pictures that are encoded together get the visual tokens that each gets alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastvlm.batches import PixelTiles, VisualTokens
from fastvlm.runtimes.together import encode_together
from fastvlm.tiles import TileLayout
from support.runtimes import tiles


class Encoder:
    """Gives each cell of 64 x 64 px a token that says what is in it, and remembers how much it was given at once."""

    def __init__(self) -> None:
        self.num_tiles: list[int] = []

    def __call__(self, image: PixelTiles) -> VisualTokens:
        num_tiles, _, height, width = image.pixels.shape
        assert num_tiles == image.layout.num_tiles
        self.num_tiles.append(num_tiles)
        cells = image.pixels.reshape(num_tiles, 3, height // 64, 64, width // 64, 64).mean(axis=(3, 5))
        tokens = cells.transpose(0, 2, 3, 1).reshape(-1, 3)
        return VisualTokens(tokens, len(tokens))


def picture(seed: int, rows: int, columns: int, *, grid: int = 1) -> PixelTiles:
    layout = TileLayout(64 * rows, 64 * columns, grid_columns=grid)
    return tiles(layout, seed)


def test_each_image_gets_its_own_tokens() -> None:
    sizes = [(1, 2), (2, 1), (1, 2), (1, 3), (1, 2), (2, 1)]
    images = [picture(seed, *size) for seed, size in enumerate(sizes)]
    images.insert(3, picture(9, 1, 2, grid=2))
    encode = Encoder()
    found = encode_together(images, encode)
    assert encode.num_tiles == [3, 2, 2, 1]
    for image, tokens in zip(images, found, strict=True):
        alone = Encoder()(image)
        assert tokens.num_tokens == alone.num_tokens
        np.testing.assert_array_equal(tokens.data, alone.data)  # type: ignore[arg-type]


def test_images_of_other_tables_are_not_encoded_together() -> None:
    one, other = picture(0, 1, 2), picture(1, 1, 2)
    encode = Encoder()
    images = [one, replace(other, table=1 - other.table)]
    found = encode_together(images, encode)
    assert encode.num_tiles == [1, 1]
    for image, tokens in zip(images, found, strict=True):
        np.testing.assert_array_equal(tokens.data, Encoder()(image).data)  # type: ignore[arg-type]


def test_large_images_are_encoded_one_by_one() -> None:
    encode = Encoder()
    encode_together([picture(seed, 8, 8) for seed in range(3)], encode)
    assert encode.num_tiles == [1, 1, 1]
    encode_together([picture(seed, 4, 4) for seed in range(6)], encode)
    assert encode.num_tiles[3:] == [4, 2]


def test_no_images_are_no_work() -> None:
    assert encode_together([], pytest.fail) == []
