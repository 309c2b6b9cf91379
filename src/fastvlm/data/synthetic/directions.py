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
    "above": ("above", "higher up than", "over"),
    "below": ("below", "under", "lower down than", "beneath"),
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
    "top left": ("at the top left", "in the top left corner", "in the upper left"),
    "top": ("at the top in the middle", "at the top edge, in the middle"),
    "top right": ("at the top right", "in the top right corner", "in the upper right"),
    "left": ("at the left edge, halfway up", "at the left in the middle"),
    "centre": ("in the centre", "in the middle", "at the centre"),
    "right": ("at the right edge, halfway up", "at the right in the middle"),
    "bottom left": ("at the bottom left", "in the bottom left corner", "in the lower left"),
    "bottom": ("at the bottom in the middle", "at the bottom edge, in the middle"),
    "bottom right": ("at the bottom right", "in the bottom right corner", "in the lower right"),
}
"""The nine places of a picture and words for them, used as {place}."""
