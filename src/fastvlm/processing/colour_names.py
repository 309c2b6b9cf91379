"""What people call a colour."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

_LEAST_SATURATION, _BLACK, _WHITE = 0.13, 0.16, 0.9
"""Of a flat colour, below which it is black, grey or white, and the brightness up to and from which it is so."""

_UNEVEN_CHROMA, _UNEVEN_SATURATION, _UNEVEN_BLACK, _UNEVEN_WHITE = 0.13, 0.15, 0.35, 0.75
"""The same where light falls unevenly, and the least difference between red, green and blue."""

_HUES = (
    (13, "red"), (45, "orange"), (68, "yellow"), (178, "green"), (254, "blue"), (318, "purple"), (343, "pink"),
    (361, "red"),
)  # fmt: skip
"""Up to which hue, in degrees, a colour has a name."""

_PALE_RED, _PALE, _BRIGHT = 353, 0.75, 0.85
"""Up to which hue a red of less saturation and more brightness is a pink."""

_LEAST = {"orange": (0.68, "brown"), "yellow": (0.6, "brown"), "pink": (0.7, "purple")}
"""Brightness below which a colour has another name."""


def colour_of(rgb: Sequence[float], *, is_lit_evenly: bool = True) -> str:
    """Name a colour of red, green and blue, from 0 to 255.

    is_lit_evenly: whether a flat colour is meant, as drawn, and not one that is shaded or tinted by its light.
    """
    red, green, blue = (part / 255 for part in rgb)
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    grey = _grey(saturation, value) if is_lit_evenly else _grey_in_uneven_light(saturation, value)
    if grey is not None:
        return grey
    hue *= 360
    name = next(name for most, name in _HUES if hue < most)
    if name == "red" and _HUES[-2][0] <= hue < _PALE_RED and saturation < _PALE and value > _BRIGHT:
        return "pink"
    least, darker = _LEAST.get(name, (0.0, name))
    return darker if value < least else name


def _grey(saturation: float, value: float) -> str | None:
    if value < _BLACK:
        return "black"
    if saturation >= _LEAST_SATURATION:
        return None
    return "white" if value > _WHITE else "grey"


def _grey_in_uneven_light(saturation: float, value: float) -> str | None:
    if saturation * value >= _UNEVEN_CHROMA and saturation >= _UNEVEN_SATURATION:
        return None
    return "black" if value < _UNEVEN_BLACK else "white" if value > _UNEVEN_WHITE else "grey"
