"""How an image is cut: the one geometry of processor and models (paper section 4, AnyRes of LLaVA-NeXT)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

ENCODER_STRIDE_PX = 64
"""FastViTHD turns every 64 x 64 pixels into one visual token (paper section 3.2)."""


@dataclass(frozen=True)
class TileLayout:
    """The tiles that one image became: an optional overview first, then a grid in row-major order.

    All tiles of an image have the same size, in pixels, a multiple of 64.
    """

    tile_height_px: int
    tile_width_px: int
    grid_rows: int = 1
    grid_columns: int = 1
    has_overview: bool = False

    @property
    def num_tiles(self) -> int:
        """Tiles that pass through the encoder."""
        return self.grid_rows * self.grid_columns + int(self.has_overview)

    @property
    def grid_px(self) -> tuple[int, int]:
        """Width and height of the grid, without the overview, in pixels."""
        return self.grid_columns * self.tile_width_px, self.grid_rows * self.tile_height_px

    @property
    def num_tokens_per_tile(self) -> int:
        """Visual tokens that the encoder makes of one tile."""
        rows = -(-self.tile_height_px // ENCODER_STRIDE_PX)
        columns = -(-self.tile_width_px // ENCODER_STRIDE_PX)
        return rows * columns

    @property
    def num_visual_tokens(self) -> int:
        """Visual tokens of the whole image."""
        return self.num_tiles * self.num_tokens_per_tile


def best_resolution(width_px: int, height_px: int, pinpoints: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Choose the (width, height) of `pinpoints` that keeps most of the picture's pixels and wastes fewest.

    The rule of LLaVA-NeXT: most effective pixels after an aspect-preserving resize, no credit for enlarging,
    then least waste; the first of equals wins.
    """
    best = pinpoints[0]
    best_effective, best_waste = -1, 0
    for candidate in pinpoints:
        scale = min(candidate[0] / width_px, candidate[1] / height_px)
        effective = min(int(width_px * scale) * int(height_px * scale), width_px * height_px)
        waste = candidate[0] * candidate[1] - effective
        if effective > best_effective or (effective == best_effective and waste < best_waste):
            best, best_effective, best_waste = candidate, effective, waste
    return best


def fit_grid(
    width_px: int,
    height_px: int,
    max_tokens: int,
    *,
    max_enlargement: float | None = None,
) -> tuple[int, int]:
    """Choose the (rows, columns) of 64 px cells, at most `max_tokens` in all, that show a picture largest.

    The picture keeps its aspect; among grids that show it equally large the one with fewest cells wins.
    max_enlargement: see `most_enlargement`; what reaches it gets the fewest cells that hold it so.
    """
    grid, scale = _largest(width_px, height_px, max_tokens)
    if max_enlargement is None:
        return grid
    most = most_enlargement(width_px, height_px, max_enlargement)
    return grid if scale <= most else _holding(most * width_px, most * height_px)


def most_enlargement(width_px: int, height_px: int, max_enlargement: float) -> float:
    """By how much a small picture is enlarged at most: as said, or more until its shorter side fills a cell.

    A line that is cut out of a scan is often thinner than half a cell, whose rest would be padding.
    """
    return max(max_enlargement, ENCODER_STRIDE_PX / min(width_px, height_px))


@lru_cache(maxsize=1024)
def _largest(width_px: int, height_px: int, max_tokens: int) -> tuple[tuple[int, int], float]:
    """The (rows, columns) of the grid that shows a picture largest, and by how much it is enlarged there."""
    best, best_scale = (1, 1), 0.0
    for rows in range(1, max_tokens + 1):
        for columns in range(1, max_tokens // rows + 1):
            scale = ENCODER_STRIDE_PX * min(columns / width_px, rows / height_px)
            if scale > best_scale * (1 + 1e-9) or (
                scale > best_scale * (1 - 1e-9) and rows * columns < best[0] * best[1]
            ):
                best, best_scale = (rows, columns), max(scale, best_scale)
    return best, best_scale


def _holding(width_px: float, height_px: float) -> tuple[int, int]:
    """The (rows, columns) of the smallest grid that holds so many pixels."""
    return math.ceil(height_px / ENCODER_STRIDE_PX - 1e-9), math.ceil(width_px / ENCODER_STRIDE_PX - 1e-9)
