"""One picture of what a model sees, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fastvlm.batches import UInt8Array
from fastvlm.errors import ImageError
from fastvlm.files import replacing
from fastvlm.tiles import TileLayout

GAP_PX = 16
GAP_GREY = 128


def compose_tiles(pictures: Sequence[UInt8Array], layout: TileLayout) -> UInt8Array:
    """Join the tiles of one image, each uint8 of tile height x tile width x 3, as they lie in its layout.

    The grid is joined without seams; an overview stands to its left, past a grey gap. A single tile stays as it is.
    """
    tiles = list(pictures)
    overview = tiles.pop(0) if layout.has_overview else None
    rows = [
        np.concatenate(tiles[row * layout.grid_columns : (row + 1) * layout.grid_columns], axis=1)
        for row in range(layout.grid_rows)
    ]
    grid = np.concatenate(rows, axis=0)
    if overview is None:
        return grid
    column = np.full((grid.shape[0], overview.shape[1] + GAP_PX, 3), GAP_GREY, dtype=np.uint8)
    column[: overview.shape[0], : overview.shape[1]] = overview
    return np.concatenate([column, grid], axis=1)


def write_picture(path: Path, picture: UInt8Array, *, existing: Literal["refuse", "replace"] = "refuse") -> None:
    """Write a picture, uint8 of H x W x 3, as a PNG that appears whole or not at all.

    existing: what to do about a file that is already there. Raises ImageError where there is one to refuse, for what
    is no file, and where writing fails.
    """
    check_place_for(path, existing=existing)
    try:
        with replacing(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    except OSError as error:
        raise ImageError(f"Expected to write the picture to {path}, got: {error.strerror or error}.") from error


def check_place_for(path: Path, *, existing: Literal["refuse", "replace"] = "refuse") -> None:
    """Raise ImageError where no picture can be written to, before it is made."""
    if path.suffix.lower() != ".png":
        raise ImageError(f"Expected a name that ends in .png for the picture, got {path}. Rename it.")
    if not path.absolute().parent.is_dir():
        raise ImageError(f"Expected a folder to write the picture to, found none at {path.absolute().parent}. Make it.")
    if path.exists() and not path.is_file():
        raise ImageError(f"Expected a file to write the picture to, got {path}, which is something else.")
    if path.exists() and existing == "refuse":
        raise ImageError(
            f"Expected a new file for the picture, but {path} exists. Choose another name, or give --force."
        )
