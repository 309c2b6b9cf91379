"""From a picture to the tiles that the encoder reads, as the checkpoint wants them."""

from __future__ import annotations

import logging
import math

import numpy as np
from PIL import Image

from fastvlm.batches import PixelTiles, UInt8Array
from fastvlm.errors import ImageError
from fastvlm.processing.config import ProcessingConfig
from fastvlm.tiles import ENCODER_STRIDE_PX, TileLayout, best_resolution, fit_grid, most_enlargement

_LOGGER = logging.getLogger(__name__)
_BICUBIC = Image.Resampling.BICUBIC
_MAX_SILENT_LOSS = 0.05
# Up to here a picture is padded before it is resized, as the authors do it.
_MAX_PADDED_PIXELS = 16_000_000
# Decoded sides over those that are looked at: below this, a picture decoded at a reduced scale would look less sharp.
_LEAST_SURPLUS = 1.5
_REDUCTIONS = (8, 4, 2)
# Long over short side: where whole intermediate pictures grow too large, and where nothing but a line is left.
_LONG_ASPECT = 16
_THREAD_ASPECT = 1000


class ImageProcessor:
    """Cuts and resizes pictures, and tells what their levels are once normalised (paper section 4).

    One geometry serves pixels and token counts.
    """

    def __init__(self, config: ProcessingConfig) -> None:
        self.config = config
        red, green, blue = config.mean
        self._color = (int(red * 255), int(green * 255), int(blue * 255))
        levels = np.arange(256, dtype=np.float64)[:, None] / 255
        # 256 levels x 3 channels: exact, and cheaper than arithmetic on whole pictures.
        table = (levels - np.array(config.mean)) / np.array(config.std)
        self._table = np.ascontiguousarray(table.T.astype(np.float32))
        self._table.setflags(write=False)  # all pictures share it
        self._has_warned = False

    def __call__(self, image: UInt8Array) -> PixelTiles:
        """Turn a picture, uint8 of H x W x 3, into tiles. Raises ImageError on other arrays."""
        first, *others = self.pictures(image)
        levels = np.stack([first, *others]) if others else first[None]
        return PixelTiles(levels, self._table, self.layout(image.shape[1], image.shape[0]))

    def layout(self, width_px: int, height_px: int) -> TileLayout:
        """Say how a picture of this size is cut, without its pixels."""
        config = self.config
        if config.mode == "fit":
            rows, columns = fit_grid(
                width_px, height_px, config.max_visual_tokens, max_enlargement=config.max_enlargement
            )
            return TileLayout(rows * ENCODER_STRIDE_PX, columns * ENCODER_STRIDE_PX)
        if config.mode == "anyres":
            width, height = best_resolution(width_px, height_px, config.pinpoints)
            return TileLayout(
                config.size_px,
                config.size_px,
                grid_rows=height // config.size_px,
                grid_columns=width // config.size_px,
                has_overview=True,
            )
        return TileLayout(config.size_px, config.size_px)

    def place(self, width_px: int, height_px: int) -> tuple[int, int, int, int]:
        """Say where on its only tile `fit` shows a picture of this size: left, top, right, bottom in pixels.

        Raises ImageError for other modes, which have several tiles or show a part.
        """
        if self.config.mode != "fit":
            raise ImageError(f"Expected the mode fit to say where a picture is, got {self.config.mode}.")
        return self._place_of(width_px, height_px, self.layout(width_px, height_px).grid_px)

    def scale(self, width_px: int, height_px: int) -> float:
        """Say by how much the model sees a picture of this size enlarged, or made smaller, which is below 1.

        Of tiles it is that of the grid; the overview is smaller.
        """
        if self.config.mode in ("pad", "crop"):
            side_px = max(width_px, height_px) if self.config.mode == "pad" else min(width_px, height_px)
            return self.config.size_px / side_px
        grid_px = self.layout(width_px, height_px).grid_px
        left_px, top_px, right_px, bottom_px = self._place_of(width_px, height_px, grid_px)
        return max((right_px - left_px) / width_px, (bottom_px - top_px) / height_px)

    def reduction(self, width_px: int, height_px: int) -> int:
        """By how much the sides of a picture may be divided when it is decoded: 1, 2, 4 or 8.

        The rest is still half as long again as what the model is shown, so that hardly any pixel changes.
        """
        layout = self.layout(width_px, height_px)
        shown_width, shown_height = layout.grid_px[0] / width_px, layout.grid_px[1] / height_px
        shown = max(shown_width, shown_height) if self.config.mode == "crop" else min(shown_width, shown_height)
        if layout.has_overview:
            shown = max(shown, self.config.size_px / min(width_px, height_px))
        return next((divisor for divisor in _REDUCTIONS if divisor * shown * _LEAST_SURPLUS <= 1), 1)

    def num_resized_pixels(self, width_px: int, height_px: int) -> int:
        """How many pixels are resized for a picture of this size: in the mode pad, those of the square around it."""
        is_square = self.config.mode == "pad" and _is_padded_first(width_px, height_px)
        return max(width_px, height_px) ** 2 if is_square else width_px * height_px

    def pictures(self, image: UInt8Array) -> list[UInt8Array]:
        """Show exactly what the model sees: one uint8 picture of height x width x 3 for each tile."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ImageError(f"Expected a picture of uint8 and H x W x 3, got {image.dtype} and {image.shape}.")
        try:
            return self._cut(Image.fromarray(np.ascontiguousarray(image)))
        except MemoryError as error:
            raise ImageError(
                f"Expected a picture that fits into memory, got {image.shape[1]} x {image.shape[0]} px. "
                "Make it smaller."
            ) from error

    def _cut(self, picture: Image.Image) -> list[UInt8Array]:
        layout = self.layout(picture.width, picture.height)
        size_px = self.config.size_px
        if self.config.mode == "pad":
            return [np.asarray(self._pad_to_square(picture))]
        if self.config.mode == "crop":
            return [np.asarray(self._crop_center(picture))]
        placed = np.asarray(self._place(picture, layout.grid_px))
        if self.config.mode == "fit":
            return [placed]
        # As in LLaVA-NeXT, which the paper follows, the overview is squashed to a square.
        overview = np.asarray(picture.resize((size_px, size_px), _BICUBIC))
        cells = placed.reshape(layout.grid_rows, size_px, layout.grid_columns, size_px, 3).swapaxes(1, 2)
        return [overview, *cells.reshape(-1, size_px, size_px, 3)]

    def _pad_to_square(self, picture: Image.Image) -> Image.Image:
        side_px, size_px = max(picture.size), self.config.size_px
        if _is_padded_first(*picture.size):
            padded = Image.new("RGB", (side_px, side_px), self._color)
            padded.paste(picture, ((side_px - picture.width) // 2, (side_px - picture.height) // 2))
            return padded.resize((size_px, size_px), _BICUBIC)
        if side_px > _THREAD_ASPECT * min(picture.size):
            return self._place(picture, (size_px, size_px))
        if picture.height > _LONG_ASPECT * picture.width:
            turned = self._pad_to_square(picture.transpose(Image.Transpose.TRANSPOSE))
            return turned.transpose(Image.Transpose.TRANSPOSE)
        # The same pixels without the padded picture in between, which for 10,000 x 10 would be 10,000 x 10,000:
        # only what the resampling can reach is ever made.
        columns, left = self._resize_on_strip(picture, side_px)
        turned, top = self._resize_on_strip(columns.transpose(Image.Transpose.TRANSPOSE), side_px)
        square = Image.new("RGB", (size_px, size_px), self._color)
        square.paste(turned.transpose(Image.Transpose.TRANSPOSE), (left, top))
        return square

    def _resize_on_strip(self, picture: Image.Image, side_px: int) -> tuple[Image.Image, int]:
        """Resize the width as if the picture lay in the middle of `side_px` columns of padding.

        Returns the columns of the result that the picture can reach, and the number of the first one.
        """
        size_px = self.config.size_px
        offset_px = (side_px - picture.width) // 2
        scale = side_px / size_px
        reach_px = 3 * max(scale, 1.0)
        first = max(0, math.floor((offset_px - reach_px) / scale))
        last = min(size_px, math.ceil((offset_px + picture.width + reach_px) / scale))
        start_px = max(0, math.floor(first * scale - reach_px))
        stop_px = min(side_px, math.ceil(last * scale + reach_px))
        strip = Image.new("RGB", (stop_px - start_px, picture.height), self._color)
        strip.paste(picture, (offset_px - start_px, 0))
        box = (first * scale - start_px, 0.0, min(last * scale - start_px, strip.width), float(strip.height))
        return strip.resize((last - first, strip.height), _BICUBIC, box=box), first

    def _crop_center(self, picture: Image.Image) -> Image.Image:
        size_px = self.config.size_px
        short_px, long_px = sorted(picture.size)
        if (loss := 1 - short_px / long_px) > _MAX_SILENT_LOSS and not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "This checkpoint crops the centre of a picture: %d %% of one of %d x %d px is not seen. "
                "Crop it yourself to choose what is, or choose the mode pad.",
                round(100 * loss),
                picture.width,
                picture.height,
            )
        resized_px = int(size_px * long_px / short_px)
        cut_px = (resized_px - size_px) // 2
        is_wide = picture.width >= picture.height
        if long_px <= _LONG_ASPECT * short_px:
            resized = picture.resize((resized_px, size_px) if is_wide else (size_px, resized_px), _BICUBIC)
            left, top = (cut_px, 0) if is_wide else (0, cut_px)
            return resized.crop((left, top, left + size_px, top + size_px))
        # A whole strip would not fit into memory at this height; the box resizes what the crop keeps.
        scale = long_px / resized_px
        start_px, stop_px = cut_px * scale, min((cut_px + size_px) * scale, long_px)
        box = (start_px, 0.0, stop_px, float(short_px)) if is_wide else (0.0, start_px, float(short_px), stop_px)
        return picture.resize((size_px, size_px), _BICUBIC, box=box)

    def _place(self, picture: Image.Image, grid_px: tuple[int, int]) -> Image.Image:
        """Resize, aspect kept, to the largest size that the grid holds and fit allows, in the middle of padding."""
        left_px, top_px, right_px, bottom_px = self._place_of(picture.width, picture.height, grid_px)
        placed = Image.new("RGB", grid_px, self._color)
        placed.paste(picture.resize((right_px - left_px, bottom_px - top_px), _BICUBIC), (left_px, top_px))
        return placed

    def _place_of(self, width_px: int, height_px: int, grid_px: tuple[int, int]) -> tuple[int, int, int, int]:
        width_scale, height_scale = grid_px[0] / width_px, grid_px[1] / height_px
        most = min(width_scale, height_scale)
        if self.config.mode == "fit" and self.config.max_enlargement is not None:
            most = most_enlargement(width_px, height_px, self.config.max_enlargement)
        if most < min(width_scale, height_scale):
            shown = (min(math.ceil(width_px * most), grid_px[0]), min(math.ceil(height_px * most), grid_px[1]))
        elif width_scale < height_scale:
            shown = (grid_px[0], min(math.ceil(height_px * width_scale), grid_px[1]))
        else:
            shown = (min(math.ceil(width_px * height_scale), grid_px[0]), grid_px[1])
        left_px, top_px = (grid_px[0] - shown[0]) // 2, (grid_px[1] - shown[1]) // 2
        return left_px, top_px, left_px + shown[0], top_px + shown[1]


def _is_padded_first(width_px: int, height_px: int) -> bool:
    """Whether a picture is put on its square before it is made smaller, where that is small, or hardly larger."""
    return max(width_px, height_px) ** 2 <= max(_MAX_PADDED_PIXELS, 2 * width_px * height_px)
