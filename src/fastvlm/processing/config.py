"""How a checkpoint wants its images. Free of PIL, so that everything can read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fastvlm.errors import CheckpointError
from fastvlm.tiles import ENCODER_STRIDE_PX

ImageMode = Literal["pad", "crop", "anyres", "fit"]


@dataclass(frozen=True, kw_only=True)
class ProcessingConfig:
    """How an image becomes tiles (paper section 4; `image_aspect_ratio` and the preprocessor file of a checkpoint).

    mode: `pad` to a square, resize the short edge and `crop` the centre, `anyres` tiles with an overview, or `fit`
    the whole picture, aspect kept, into the largest grid of 64 px cells. size_px: side of a tile (not used by fit).
    mean and std: per channel, on values of 0 to 1; what is padded has the colour of the mean. pinpoints: allowed
    (width, height) of the tiled picture for anyres. max_visual_tokens: cells at most, for fit. max_enlargement: by
    which fit enlarges a small picture at most, unless it is thinner than a cell then; None for as large as it can be.
    Raises CheckpointError on values that make no sense, such as sizes that are not multiples of 64.
    """

    mode: ImageMode = "pad"
    size_px: int = 1024
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pinpoints: tuple[tuple[int, int], ...] = ()
    max_visual_tokens: int = 256
    max_enlargement: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(ImageMode):
            raise CheckpointError(f"Expected an image mode of {', '.join(get_args(ImageMode))}, got {self.mode!r}.")
        if self.size_px < ENCODER_STRIDE_PX or self.size_px % ENCODER_STRIDE_PX:
            nearest = max(1, round(self.size_px / ENCODER_STRIDE_PX)) * ENCODER_STRIDE_PX
            raise CheckpointError(
                f"Expected an image size that is a multiple of {ENCODER_STRIDE_PX} px, got {self.size_px}. "
                f"The nearest is {nearest}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise CheckpointError(
                f"Expected mean and std of 3 channels with every std above 0, got {self.mean} and {self.std}."
            )
        if self.max_visual_tokens < 1:
            raise CheckpointError(f"Expected at least 1 visual token for an image, got {self.max_visual_tokens}.")
        if self.max_enlargement is not None and self.max_enlargement <= 0:
            raise CheckpointError(f"Expected an enlargement above 0, got {self.max_enlargement}.")
        if self.mode == "anyres" and not self.pinpoints:
            raise CheckpointError("Expected pinpoints, the sizes of the tiled picture, for the mode anyres, got none.")
        for width_px, height_px in self.pinpoints:
            if min(width_px, height_px) < self.size_px or width_px % self.size_px or height_px % self.size_px:
                raise CheckpointError(
                    f"Expected pinpoints that are multiples of the tile's {self.size_px} px, "
                    f"got {width_px} x {height_px}."
                )
