"""The picture for people shows every tile at its place."""

from __future__ import annotations

import numpy as np

from fastvlm.processing.config import ProcessingConfig
from fastvlm.processing.preview import GAP_GREY, GAP_PX, compose_tiles
from fastvlm.processing.tiling import ImageProcessor
from fastvlm.tiles import TileLayout


def test_a_single_tile_is_the_picture_itself() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8)
    processor = ImageProcessor(ProcessingConfig(mode="pad", size_px=128))
    tiles = processor.pictures(picture)
    assert np.array_equal(compose_tiles(tiles, processor.layout(200, 90)), tiles[0])


def test_tiles_lie_row_by_row_beside_the_overview() -> None:
    layout = TileLayout(64, 64, grid_rows=2, grid_columns=3, has_overview=True)
    tiles = [np.full((64, 64, 3), 10 * number, dtype=np.uint8) for number in range(7)]
    picture = compose_tiles(tiles, layout)
    assert picture.shape == (128, 64 + GAP_PX + 192, 3)
    left = 64 + GAP_PX
    assert [int(picture[row * 64, left + column * 64, 0]) for row in range(2) for column in range(3)] == [
        10, 20, 30, 40, 50, 60,
    ]  # fmt: skip
    assert picture[0, 0, 0] == 0
    assert picture[64:, :64].min() == picture[64:, :64].max() == GAP_GREY
