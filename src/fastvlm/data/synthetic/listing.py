"""Everything that a scene holds, in one answer: the densest things to say about a picture.

One such answer teaches as many words as ten short ones, and the same skills: naming, counting, ordering, placing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastvlm.data.synthetic.facts import SceneFacts
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.scene import Scene, SceneObject
from fastvlm.data.synthetic.shapes import SHAPES

EMPTY_LISTING = "nothing"

_CELL_PX = 64
_BETWEEN = "between"
"""The place of an object that is near the border of two."""


@dataclass(frozen=True)
class Listing:
    """requests: ways to ask for it. entries: what it lists of a scene, in order."""

    requests: tuple[str, ...]
    entries: Callable[[Scene], Iterable[str]]


def _name(item: SceneObject) -> str:
    return f"{item.color} {item.shape}"


def _reading_place(item: SceneObject) -> tuple[int, int, float]:
    return int(item.center_y_px // _CELL_PX), int(item.center_x_px // _CELL_PX), item.center_x_px


def _in_order(key: Callable[[SceneObject], float | tuple[float, ...]]) -> Callable[[Scene], list[str]]:
    return lambda scene: [_name(item) for item in sorted(scene.objects, key=key)]


def _color_numbers(scene: Scene) -> list[str]:
    numbers = Counter(item.color for item in scene.objects)
    return [f"{color} {numbers[color]}" for color in COLORS if numbers[color]]


def _shape_numbers(scene: Scene) -> list[str]:
    numbers = Counter(item.shape for item in scene.objects)
    return [f"{shape} {numbers[shape]}" for shape in SHAPES if numbers[shape]]


def _kind_numbers(scene: Scene) -> list[str]:
    numbers = Counter((item.color, item.shape) for item in scene.objects)
    kinds = [(color, shape) for color in COLORS for shape in SHAPES if numbers[color, shape]]
    return [f"{color} {shape} {numbers[color, shape]}" for color, shape in kinds]


def _places(scene: Scene) -> list[str]:
    facts = SceneFacts(scene)
    order = sorted(range(len(scene.objects)), key=lambda index: _reading_place(scene.objects[index]))
    return [f"{_name(scene.objects[index])} {facts.places[index] or _BETWEEN}" for index in order]


LISTINGS: dict[str, Listing] = {
    "reading order": Listing(
        (
            "List the objects.",
            "List all objects in reading order.",
            "Name every shape from top left to bottom right.",
            "Which objects are there, in reading order?",
        ),
        _in_order(_reading_place),
    ),
    "left to right": Listing(
        ("List the objects from left to right.", "Name the objects in order, left to right."),
        _in_order(lambda item: item.center_x_px),
    ),
    "top to bottom": Listing(
        ("List the objects from top to bottom.", "Name the objects in order, top to bottom."),
        _in_order(lambda item: item.center_y_px),
    ),
    "size": Listing(
        ("List the objects from small to large.", "Name the objects in order of size."),
        _in_order(lambda item: item.size_px),
    ),
    "colors": Listing(
        ("How many objects of each color are there?", "Count the objects of every colour."), _color_numbers
    ),
    "shapes": Listing(
        ("How many objects of each shape are there?", "Count the objects of every shape."), _shape_numbers
    ),
    "kinds": Listing(("How many objects of each kind are there?", "Count every kind of object."), _kind_numbers),
    "places": Listing(("Where is each object?", "Name every object with its place."), _places),
}
"""The listings by what they go through. Ordered ones are exact to the pixel, so they are taught and never judged."""


def sample_listings(scene: Scene, rng: random.Random, *, num_listings: int) -> list[tuple[str, str]]:
    """Give requests and answers of different kinds, such as `red star, blue circle`, in random order."""
    chosen = rng.sample(list(LISTINGS.values()), num_listings)
    return [(rng.choice(entry.requests), ", ".join(entry.entries(scene)) or EMPTY_LISTING) for entry in chosen]
