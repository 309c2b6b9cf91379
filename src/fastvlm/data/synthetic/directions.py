"""Words for where things are, and for the extremes of place and size."""

from __future__ import annotations

PLACE_SUFFIXES: tuple[str, ...] = (
    " in the picture",
    " in the image",
    " in the scene",
    " in this picture",
    " in this image",
    " here",
)
"""What {where} may become."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of", "on the left of"),
    "right": ("to the right of", "right of", "on the right of"),
    "above": ("above", "higher up than", "farther up than"),
    "below": ("below", "lower down than", "farther down than"),
}
"""Words for a direction, used as {rel}."""

SUPERLATIVES: dict[str, tuple[str, ...]] = {
    "left": ("leftmost",),
    "right": ("rightmost",),
    "above": ("topmost", "highest", "uppermost"),
    "below": ("lowest", "bottommost"),
    "largest": ("largest", "biggest"),
    "smallest": ("smallest",),
}
"""Words for an extreme, used as {sup}."""

PLACES: dict[str, tuple[str, ...]] = {
    "top left": ("at the top left", "in the top left corner"),
    "top": ("at the top in the middle", "at the top, halfway across"),
    "top right": ("at the top right", "in the top right corner"),
    "left": ("at the left, halfway up", "at the left in the middle"),
    "centre": ("in the centre", "in the middle", "at the centre"),
    "right": ("at the right, halfway up", "at the right in the middle"),
    "bottom left": ("at the bottom left", "in the bottom left corner"),
    "bottom": ("at the bottom in the middle", "at the bottom, halfway across"),
    "bottom right": ("at the bottom right", "in the bottom right corner"),
}
"""The nine places of a picture and words for them, used as {place}."""
