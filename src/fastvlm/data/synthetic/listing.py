"""Everything that a scene holds, in one answer: the densest things to say about a picture.

One such answer teaches as many words as ten short ones, and the same skills: naming, counting, ordering, placing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from fastvlm.data.synthetic.facts import SceneFacts
from fastvlm.data.synthetic.labels import TOKEN_CELL_PX, cell_of
from fastvlm.data.synthetic.palette import COLORS
from fastvlm.data.synthetic.scene import Scene, SceneObject
from fastvlm.data.synthetic.shapes import PLURALS, SHAPES

EMPTY_LISTING = "nothing"

_BETWEEN = "between"
"""The place of an object that is near the border of two."""


Entries = list[str]


@dataclass(frozen=True)
class Listing:
    """requests: ways to ask for it. build: what it lists of a scene in order, with the fillings of the request's slots,
    or None where a scene has nothing to start from.
    """

    requests: tuple[str, ...]
    build: Callable[[SceneFacts, random.Random], tuple[dict[str, str], Entries] | None]


def _name(item: SceneObject) -> str:
    return f"{item.color} {item.shape}"


def _reading_place(item: SceneObject) -> tuple[int, int, float]:
    return int(item.center_y_px // TOKEN_CELL_PX), int(item.center_x_px // TOKEN_CELL_PX), item.center_x_px


def _whole(
    entries: Callable[[SceneFacts], Entries],
) -> Callable[[SceneFacts, random.Random], tuple[dict[str, str], Entries]]:
    """A listing of everything, which needs no slots and no choice."""
    return lambda facts, _rng: ({}, entries(facts))


def _in_reading_order(facts: SceneFacts) -> Entries:
    return [_name(item) for item in sorted(facts.objects, key=_reading_place)]


def _in_order(
    key: Callable[[SceneObject], float], *, least_px: float = 0.0, least_share: float = 0.0
) -> Callable[[SceneFacts, random.Random], tuple[dict[str, str], Entries] | None]:
    """A listing by a number, where every difference that would change it is large enough to be seen."""

    def entries(facts: SceneFacts, _: random.Random) -> tuple[dict[str, str], Entries] | None:
        ordered = sorted(facts.objects, key=key)
        for one, next_one in pairwise(ordered):
            if _name(one) != _name(next_one) and key(next_one) - key(one) < least_px + least_share * key(one):
                return None
        return {}, [_name(item) for item in ordered]

    return entries


def _color_numbers(facts: SceneFacts) -> Entries:
    return [f"{color} {facts.color_counts[color]}" for color in COLORS if facts.color_counts[color]]


def _shape_numbers(facts: SceneFacts) -> Entries:
    return [f"{shape} {facts.shape_counts[shape]}" for shape in SHAPES if facts.shape_counts[shape]]


def _kind_numbers(facts: SceneFacts) -> Entries:
    kinds = [(color, shape) for color in COLORS for shape in SHAPES if facts.pair_counts[color, shape]]
    return [f"{color} {shape} {facts.pair_counts[color, shape]}" for color, shape in kinds]


def _num_kinds(facts: SceneFacts, rng: random.Random) -> tuple[dict[str, str], Entries]:
    """How many different colours or shapes there are, and then which."""
    if rng.random() < 0.5:
        names = [color for color in COLORS if facts.color_counts[color]]
        word = rng.choice(("different colors of objects", "different colours of objects", "kinds of colour"))
    else:
        names = [shape for shape in SHAPES if facts.shape_counts[shape]]
        word = rng.choice(("different shapes", "kinds of shape"))
    return {"things": word}, [str(len(names)), *names]


def _places(facts: SceneFacts) -> Entries:
    return [f"{_name(facts.objects[index])} {facts.places[index] or _BETWEEN}" for index in _reading_order(facts)]


def _cells(facts: SceneFacts) -> Entries:
    """Column and row, from 1, of the visual token that each object belongs to."""
    rows, columns = facts.scene.height_px // TOKEN_CELL_PX, facts.scene.width_px // TOKEN_CELL_PX
    entries = []
    for index in _reading_order(facts):
        row, column = cell_of(facts.objects[index], rows, columns, TOKEN_CELL_PX)
        entries.append(f"{_name(facts.objects[index])} {column + 1} {row + 1}")
    return entries


def _reading_order(facts: SceneFacts) -> list[int]:
    return sorted(range(len(facts.objects)), key=lambda index: _reading_place(facts.objects[index]))


def _around(facts: SceneFacts, rng: random.Random) -> tuple[dict[str, str], Entries] | None:
    """The direction of every object from one that is the only one of its kind."""
    only = facts.referents("pair")
    if not only:
        return None
    center, _ = rng.choice(only)
    directions = {index: facts.main_direction(index, center) for index in _reading_order(facts) if index != center}
    entries = [f"{_name(facts.objects[index])} {direction}" for index, direction in directions.items() if direction]
    return {"the": f"the {_name(facts.objects[center])}"}, entries


def _sizes_beside(facts: SceneFacts, rng: random.Random) -> tuple[dict[str, str], Entries] | None:
    """Every object that is clearly larger or smaller than one that is the only one of its kind."""
    only = facts.referents("pair")
    if not only:
        return None
    base, _ = rng.choice(only)
    words = {True: "larger", False: "smaller", None: ""}
    sizes = {index: words[facts.is_larger(index, base)] for index in _reading_order(facts) if index != base}
    entries = [f"{_name(facts.objects[index])} {word}" for index, word in sizes.items() if word]
    return {"the": f"the {_name(facts.objects[base])}"}, entries


def _numbers_beside(facts: SceneFacts, rng: random.Random) -> tuple[dict[str, str], Entries] | None:
    """Whether the objects of every other colour or shape are more, fewer or as many as those of one."""
    is_color = rng.random() < 0.5
    counts: Mapping[str, int] = facts.color_counts if is_color else facts.shape_counts
    names = [name for name in (COLORS if is_color else SHAPES) if counts[name]]
    if not names:
        return None
    base = rng.choice(names)

    def compared(name: str) -> str:
        return "more" if counts[name] > counts[base] else "fewer" if counts[name] < counts[base] else "as many"

    things = f"{base} objects" if is_color else PLURALS[base]
    return {"things": things}, [f"{name} {compared(name)}" for name in names if name != base]


LISTINGS: dict[str, Listing] = {
    "reading order": Listing(
        (
            "List the objects.",
            "List all objects in reading order.",
            "Name every shape from top left to bottom right.",
            "Which objects are there, in reading order?",
        ),
        _whole(_in_reading_order),
    ),
    "left to right": Listing(
        ("List the objects from left to right.", "Name the objects in order, left to right."),
        _in_order(lambda item: item.center_x_px, least_px=2),
    ),
    "top to bottom": Listing(
        ("List the objects from top to bottom.", "Name the objects in order, top to bottom."),
        _in_order(lambda item: item.center_y_px, least_px=2),
    ),
    "size": Listing(
        ("List the objects from small to large.", "Name the objects in order of size."),
        _in_order(lambda item: item.size_px, least_share=0.1),
    ),
    "colors": Listing(
        ("How many objects of each color are there?", "Count the objects of every colour."), _whole(_color_numbers)
    ),
    "shapes": Listing(
        ("How many objects of each shape are there?", "Count the objects of every shape."), _whole(_shape_numbers)
    ),
    "kinds": Listing(
        ("How many objects of each kind are there?", "Count every kind of object."), _whole(_kind_numbers)
    ),
    "number of kinds": Listing(
        ("How many {things} are there, and which?", "Count the {things} and name them."), _num_kinds
    ),
    "places": Listing(("Where is each object?", "Name every object with its place."), _whole(_places)),
    "cells": Listing(
        ("In which column and row is each object?", "Name every object with its column and row."), _whole(_cells)
    ),
    "around": Listing(
        ("Where are the others, seen from {the}?", "Name the direction of each object from {the}."), _around
    ),
    "sizes beside": Listing(
        ("Which objects are larger or smaller than {the}?", "Compare the size of each object with {the}."),
        _sizes_beside,
    ),
    "numbers beside": Listing(
        ("Are there more or fewer of the others than {things}?", "Compare all numbers with that of the {things}."),
        _numbers_beside,
    ),
}
"""The listings by what they go through. Reading order is exact to the pixel, so they are taught and never judged."""


def in_reading_order(scene: Scene) -> str:
    """All objects of a scene by name, from top left to bottom right."""
    return _joined(_in_reading_order(SceneFacts(scene)))


def _joined(entries: Entries) -> str:
    return ", ".join(entries) or EMPTY_LISTING


def sample_listings(scene: Scene, rng: random.Random, *, num_listings: int) -> list[tuple[str, str]]:
    """Give requests and answers of different kinds, such as `red star, blue circle`, in random order."""
    facts = SceneFacts(scene)
    listings: list[tuple[str, str]] = []
    for listing in rng.sample(list(LISTINGS.values()), len(LISTINGS)):
        built = listing.build(facts, rng) if len(listings) < num_listings else None
        if built is not None:
            slots, entries = built
            listings.append((rng.choice(listing.requests).format_map(slots), _joined(entries)))
    return listings
