"""The colours of the generated scenes: names that a person would use, and the ranges of RGB behind them."""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

RGB = tuple[int, int, int]

COLORS: tuple[str, ...] = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "black",
    "white",
    "pink",
    "brown",
)
"""The ten colours of objects, in the order of the class numbers: the basic colour names of English but grey."""

BACKGROUND_COLORS: tuple[str, ...] = (*COLORS, "grey")
"""The colours of backgrounds: those of objects, and the neutral one."""


@dataclass(frozen=True)
class HsvRange:
    """A box of hue (degrees, may pass 360), saturation and value (0 to 1) with a relative frequency."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    weight: float = 1.0


OBJECT_RANGES: dict[str, tuple[HsvRange, ...]] = {
    "red": (HsvRange((350, 367), (0.78, 1.0), (0.72, 1.0)),),
    "orange": (HsvRange((21, 38), (0.85, 1.0), (0.92, 1.0)),),
    "yellow": (HsvRange((50, 61), (0.72, 1.0), (0.9, 1.0)),),
    "green": (HsvRange((95, 148), (0.5, 1.0), (0.36, 0.9)), HsvRange((105, 130), (0.6, 1.0), (0.85, 1.0), 0.5)),
    "blue": (
        HsvRange((202, 242), (0.65, 1.0), (0.55, 1.0)),
        HsvRange((203, 222), (0.45, 0.7), (0.85, 1.0), 0.3),
        HsvRange((222, 242), (0.75, 1.0), (0.42, 0.6), 0.35),
    ),
    "purple": (HsvRange((266, 288), (0.5, 1.0), (0.5, 0.95)), HsvRange((288, 301), (0.6, 1.0), (0.4, 0.6), 0.6)),
    "pink": (HsvRange((326, 347), (0.3, 0.72), (0.95, 1.0)), HsvRange((340, 351), (0.22, 0.35), (0.97, 1.0), 0.3)),
    "brown": (HsvRange((16, 32), (0.55, 0.9), (0.34, 0.58)),),
    "black": (HsvRange((0, 360), (0.0, 0.3), (0.0, 0.11)),),
    "white": (HsvRange((0, 360), (0.0, 0.02), (0.97, 1.0)),),
    "grey": (HsvRange((0, 360), (0.0, 0.04), (0.38, 0.72)),),
}
"""Colours of objects. Between the names there are gaps (no cyan, teal, magenta, olive), so that each has one name."""

EXACT_COLORS: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (220, 20, 60)),
    "orange": ((255, 165, 0), (255, 140, 0)),
    "yellow": ((255, 255, 0), (255, 215, 0)),
    "green": ((0, 128, 0), (0, 255, 0), (50, 205, 50), (34, 139, 34)),
    "blue": ((0, 0, 255), (0, 153, 255), (0, 0, 128), (65, 105, 225), (30, 144, 255)),
    "purple": ((128, 0, 128), (138, 43, 226), (102, 51, 153)),
    "pink": ((255, 192, 203), (255, 105, 180)),
    "brown": ((139, 69, 19), (160, 82, 45)),
    "black": ((0, 0, 0),),
    "white": ((255, 255, 255),),
    "grey": ((128, 128, 128), (169, 169, 169)),
}
"""The colours of the same names that CSS, drawing programs and libraries use: pictures are full of them."""

EXACT_COLOR_PROBABILITY = 0.3

TINT_RANGES: dict[str, tuple[HsvRange, ...]] = {
    "red": (HsvRange((352, 366), (0.45, 0.65), (0.9, 1.0)),),
    "orange": (HsvRange((24, 35), (0.4, 0.65), (0.97, 1.0)),),
    "yellow": (HsvRange((52, 60), (0.28, 0.6), (0.96, 1.0)),),
    "green": (HsvRange((100, 145), (0.2, 0.45), (0.85, 1.0)),),
    "blue": (HsvRange((203, 235), (0.2, 0.42), (0.92, 1.0)),),
    "purple": (HsvRange((262, 285), (0.2, 0.42), (0.9, 1.0)),),
    "pink": (HsvRange((330, 350), (0.16, 0.3), (0.98, 1.0)),),
    "brown": (HsvRange((22, 32), (0.45, 0.6), (0.5, 0.64)),),
    "grey": (HsvRange((0, 360), (0.0, 0.03), (0.7, 0.87)),),
}
"""Light tones that still have a name, for backgrounds and panels."""


def _from_range(rng: random.Random, ranges: tuple[HsvRange, ...]) -> RGB:
    box = ranges[0] if len(ranges) == 1 else rng.choices(ranges, [entry.weight for entry in ranges])[0]
    red, green, blue = colorsys.hsv_to_rgb(
        (rng.uniform(*box.hue) % 360) / 360, rng.uniform(*box.saturation), rng.uniform(*box.value)
    )
    return round(red * 255), round(green * 255), round(blue * 255)


def sample_rgb(rng: random.Random, *, color: str) -> RGB:
    """Draw an RGB that a person would call `color`: often the exact CSS value, else a jittered one."""
    if rng.random() < EXACT_COLOR_PROBABILITY:
        return rng.choice(EXACT_COLORS[color])
    return _from_range(rng, OBJECT_RANGES[color])


def sample_tint(rng: random.Random, *, color: str) -> RGB:
    """Draw a light tone of `color` for a background; black and white have none and fall back to the colour itself."""
    if color not in TINT_RANGES:
        return sample_rgb(rng, color=color)
    return _from_range(rng, TINT_RANGES[color])


def color_distance(first: RGB, second: RGB) -> float:
    """Perceived distance of two colours, 0 to about 765: the `redmean` weighting of the RGB difference."""
    mean_red = (first[0] + second[0]) / 2
    red, green, blue = (one - other for one, other in zip(first, second, strict=True))
    return float(
        ((2 + mean_red / 256) * red * red + 4 * green * green + (2 + (255 - mean_red) / 256) * blue * blue) ** 0.5
    )
