"""A scene: coloured shapes on a background, with the words that are true of it. How scenes are drawn at random is in
`sampling.py`, how they become pixels in `draw.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvlm.data.synthetic.palette import RGB
from fastvlm.data.synthetic.shapes import ShapeForm

SizeName = Literal["small", "medium", "large"]

SIZES: tuple[SizeName, ...] = ("small", "medium", "large")

SIZE_BANDS: dict[SizeName, tuple[float, float]] = {
    "small": (0.0, 0.145),
    "medium": (0.17, 0.26),
    "large": (0.295, 1.0),
}
"""Size of an object by the short side of its picture: what is between two bands has no size name."""

CANVAS_SIZES_PX: tuple[tuple[int, int], ...] = (
    (256, 256),
    (320, 192),
    (192, 320),
    (256, 192),
    (192, 256),
    (192, 192),
    (384, 128),
    (128, 384),
    (320, 128),
    (512, 128),
    (128, 512),
)
"""(width, height) that scenes are drawn in where nothing else is asked for: up to 64 cells of 32 px."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, right and bottom not included."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top


@dataclass(frozen=True)
class SceneObject:
    """One shape: `size_px` is the longer side of its bounding box, the centre is that of the bounding box."""

    shape: str
    color: str
    size_px: float
    center_x_px: float
    center_y_px: float
    rgb: RGB
    form: ShapeForm
    outline_rgb: RGB | None = None


@dataclass(frozen=True)
class Background:
    """What is behind the objects.

    color: its name, or None where people would disagree. rgb: its colour, `end_rgb` the other end of a gradient
    (the same where it is plain) that runs `across` or `down`. noise: standard deviation in grey levels.
    """

    color: str | None
    rgb: RGB
    end_rgb: RGB
    direction: Literal["across", "down"] = "across"
    noise: float = 0.0


@dataclass(frozen=True)
class Panel:
    """A box on the background that holds objects."""

    box: Box
    rgb: RGB
    border_rgb: RGB | None = None


@dataclass(frozen=True)
class Scene:
    """A picture of `frame` inside a canvas of width x height pixels; around it is the padding of a model input."""

    width_px: int
    height_px: int
    background: Background
    objects: tuple[SceneObject, ...]
    panels: tuple[Panel, ...] = ()
    frame: Box = Box(0, 0, 0, 0)
    padding_rgb: RGB = (0, 0, 0)

    def __post_init__(self) -> None:
        """A scene without a frame fills its canvas."""
        if self.frame.width == 0:
            object.__setattr__(self, "frame", Box(0, 0, self.width_px, self.height_px))

    @property
    def short_side_px(self) -> float:
        """Short side of the picture without its padding, in pixels."""
        return min(self.frame.width, self.frame.height)


def size_name(size_px: float, short_side_px: float) -> SizeName | None:
    """Name the size of an object, or None where people would disagree."""
    share = size_px / short_side_px
    for name, (low, high) in SIZE_BANDS.items():
        if low <= share <= high:
            return name
    return None
