"""What on a picture is ink: darker than the paper around it, or lighter on a dark page."""

from __future__ import annotations

import numpy as np

from fastvlm.batches import BoolArray, Float32Array

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)
"""Pixels of ink that touch by a corner hang together."""

MOST_PARTS = 20_000
"""Of ink that hangs together, on a picture that is searched for shapes: one with more is a texture, or noise."""

DARK = 128
"""A picture that is mostly darker has light text."""

_WINDOW_OF_SIDE = 0.05
_LEAST_CONTRAST = 12
_SAUVOLA = 0.2, 128.0
"""What ink must be darker than: the mean around it, by more where the surroundings vary (Sauvola and Pietikäinen 2000).

As shares of the short side, in grey levels, and the two constants of that paper.
"""


def ink_of(grey: Float32Array) -> BoolArray:
    """Say what is darker than its surroundings, or lighter on a picture that is mostly dark."""
    from scipy import ndimage

    if np.median(grey) < DARK:
        grey = 255 - grey
    window_px = max(15, round(_WINDOW_OF_SIDE * min(grey.shape))) | 1
    mean = ndimage.uniform_filter(grey, window_px)
    deviation = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, window_px) - mean * mean, 0))
    share, full_deviation = _SAUVOLA
    threshold = np.minimum(mean * (1 + share * (deviation / full_deviation - 1)), mean - _LEAST_CONTRAST)
    ink: BoolArray = grey < threshold
    return ink
