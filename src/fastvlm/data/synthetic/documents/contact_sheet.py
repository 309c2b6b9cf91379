"""Many pictures on one sheet, to look at what is generated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastvlm.batches import UInt8Array

GAP_PX = 8
GAP_GREY = 96


def contact_sheet(pictures: Sequence[UInt8Array], *, width_px: int) -> UInt8Array:
    """Put pictures, uint8 of H x W x 3 each, beside and below each other in their order: uint8 of H x width x 3.

    A picture that is wider than the sheet makes it as wide.
    """
    width_px = max(width_px, *(picture.shape[1] + 2 * GAP_PX for picture in pictures))
    places: list[tuple[int, int]] = []
    x_px, y_px, row_px = GAP_PX, GAP_PX, 0
    for picture in pictures:
        height_px, own_px = picture.shape[:2]
        if x_px + own_px + GAP_PX > width_px:
            x_px, y_px, row_px = GAP_PX, y_px + row_px + GAP_PX, 0
        places.append((x_px, y_px))
        x_px, row_px = x_px + own_px + GAP_PX, max(row_px, height_px)
    sheet = np.full((y_px + row_px + GAP_PX, width_px, 3), GAP_GREY, np.uint8)
    for (left_px, top_px), picture in zip(places, pictures, strict=True):
        sheet[top_px : top_px + picture.shape[0], left_px : left_px + picture.shape[1]] = picture
    return sheet
