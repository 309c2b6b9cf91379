"""The shapes of the generated scenes: outlines in the square from -1 to 1, and what a person would call them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

Point = tuple[float, float]

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "heart",
    "diamond",
    "ring",
)
"""The eight shapes, in the order of the class numbers."""

PLURALS: dict[str, str] = {shape: {"cross": "crosses"}.get(shape, shape + "s") for shape in SHAPES}
"""Plural of each shape's name."""

MIN_SIZE_PX: dict[str, int] = {
    "circle": 13,
    "square": 13,
    "triangle": 13,
    "star": 18,
    "cross": 16,
    "heart": 17,
    "diamond": 15,
    "ring": 15,
}
"""Smallest size at which a shape is told from the others at model input, in pixels."""

AREA_SHARE: dict[str, float] = {
    "circle": 0.79,
    "square": 1.0,
    "triangle": 0.5,
    "star": 0.35,
    "cross": 0.56,
    "heart": 0.6,
    "diamond": 0.4,
    "ring": 0.5,
}
"""Share of its bounding square that a shape fills, about."""


@dataclass(frozen=True)
class ShapeForm:
    """How one shape is drawn: `proportion` is the shape's free parameter (inner radius, arm, or height and width)."""

    proportion: float
    rotation_deg: float


_PROPORTIONS: dict[str, tuple[float, float]] = {
    "circle": (1.0, 1.0),
    "square": (1.0, 1.0),
    "triangle": (0.87, 1.0),
    "star": (0.38, 0.48),
    "cross": (0.28, 0.4),
    "heart": (0.9, 1.0),
    "diamond": (0.62, 0.9),
    "ring": (0.5, 0.66),
}

_ROTATIONS_DEG: dict[str, float] = {
    "circle": 0.0,
    "square": 10.0,
    "triangle": 25.0,
    "star": 36.0,
    "cross": 12.0,
    "heart": 20.0,
    "diamond": 8.0,
    "ring": 0.0,
}
"""Largest turn either way that leaves the name true: a square turned by 45 degrees is a diamond."""


def sample_form(rng: random.Random, *, shape: str, rotated: bool) -> ShapeForm:
    """Draw the free parameter of `shape` and, if `rotated`, a turn under which it keeps its name."""
    limit = _ROTATIONS_DEG[shape] if rotated else 0.0
    return ShapeForm(
        proportion=round(rng.uniform(*_PROPORTIONS[shape]), 3), rotation_deg=round(rng.uniform(-limit, limit), 1)
    )


def _regular(corners: int, first_deg: float) -> list[Point]:
    angles = (math.radians(first_deg + 360 * index / corners) for index in range(corners))
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _star(inner_radius: float) -> list[Point]:
    points = []
    for index in range(10):
        radius = 1.0 if index % 2 == 0 else inner_radius
        angle = math.radians(-90 + 36 * index)
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _heart(height: float) -> list[Point]:
    points = []
    for index in range(64):
        angle = 2 * math.pi * index / 64
        across = math.sin(angle) ** 3
        down = -(13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)) / 16
        points.append((across, down * height))
    return points


def _cross(arm: float) -> list[Point]:
    return [
        (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
        (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
    ]  # fmt: skip


_CIRCLE = _regular(64, 0.0)


def _upright(shape: str, proportion: float) -> list[Point]:
    if shape in ("circle", "ring"):
        return _CIRCLE
    if shape == "square":
        return [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    if shape == "triangle":
        return [(0, -proportion), (1, proportion), (-1, proportion)]
    if shape == "star":
        return _star(proportion)
    if shape == "cross":
        return _cross(proportion)
    if shape == "diamond":
        return [(0, -1), (proportion, 0), (0, 1), (-proportion, 0)]
    return _heart(proportion)


def outline(shape: str, form: ShapeForm) -> list[Point]:
    """Corners of `shape` around (0, 0), y down, turned and then scaled to fit the square from -1 to 1.

    A ring gives its outer edge; `form.proportion` is its hole's radius.
    """
    points = _upright(shape, form.proportion)
    if form.rotation_deg:
        angle = math.radians(form.rotation_deg)
        cosine, sine = math.cos(angle), math.sin(angle)
        points = [(x * cosine - y * sine, x * sine + y * cosine) for x, y in points]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    half = max(right - left, bottom - top) / 2
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    return [((x - middle_x) / half, (y - middle_y) / half) for x, y in points]
