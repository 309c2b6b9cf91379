"""What people call a colour."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

_LEAST_SATURATION, _BLACK, _WHITE = 0.1, 0.16, 0.9
"""Of a flat colour, below which it is black, grey or white, and the brightness up to and from which it is so."""

_UNEVEN_CHROMA, _UNEVEN_SATURATION, _UNEVEN_BLACK, _UNEVEN_WHITE = 0.13, 0.15, 0.35, 0.75
"""The same where light falls unevenly, and the least difference between red, green and blue."""

_HUES = ((13, "red"), (45, "orange"), (68, "yellow"), (178, "green"), (254, "blue"), (320, "purple"), (361, "red"))
"""Up to which hue, in degrees, a colour has a name."""

_PINK, _PINK_SATURATION, _PINK_BRIGHTNESS = (318, 353), 0.75, 0.85
_LEAST_ORANGE, _LEAST_YELLOW = 0.68, 0.6
"""Brightness below which a colour is brown."""


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
    if _PINK[0] <= hue < _PINK[1] and saturation < _PINK_SATURATION and value > _PINK_BRIGHTNESS:
        return "pink"
    name = next(name for most, name in _HUES if hue < most)
    least = {"orange": _LEAST_ORANGE, "yellow": _LEAST_YELLOW}.get(name, 0.0)
    return "brown" if value < least else name


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
