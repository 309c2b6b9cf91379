"""Every listing of a scene, put together by hand, is what a person with a ruler would write."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fastvlm.data.synthetic.facts import SceneFacts
from fastvlm.data.synthetic.listing import EMPTY_LISTING, LISTINGS, sample_listings
from fastvlm.data.synthetic.mentions import find_mentions
from fastvlm.data.synthetic.samples import scene_sample
from fastvlm.data.synthetic.scene import Background, Scene, SceneObject
from fastvlm.data.synthetic.shapes import ShapeForm


def make_object(shape: str, color: str, size_px: float, x_px: float, y_px: float) -> SceneObject:
    return SceneObject(shape, color, size_px, x_px, y_px, (0, 0, 0), ShapeForm(0.4, 0.0))


WHITE = Background("white", (255, 255, 255), (255, 255, 255))
SCENE = Scene(
    256,
    256,
    WHITE,
    (
        make_object("heart", "red", 57, 206, 206),
        make_object("cross", "green", 16, 12, 230),
        make_object("square", "blue", 36, 40, 200),
        make_object("square", "blue", 30, 92, 20),
        make_object("star", "yellow", 48, 200, 52),
        make_object("circle", "red", 64, 36, 48),
    ),
)
"""Rows and columns of 32 px: square (0, 2), circle (1, 1), star (1, 6), square (6, 1), heart (6, 6), cross (7, 0)."""

EXPECTED: dict[str, dict[str, str]] = {
    "reading order": {"": "blue square, red circle, yellow star, blue square, red heart, green cross"},
    "left to right": {"": "green cross, red circle, blue square, blue square, yellow star, red heart"},
    "top to bottom": {"": "blue square, red circle, yellow star, blue square, red heart, green cross"},
    "size": {"": "green cross, blue square, blue square, yellow star, red heart, red circle"},
    "colors": {"": "red 2, yellow 1, green 1, blue 2"},
    "shapes": {"": "circle 1, square 2, star 1, cross 1, heart 1"},
    "kinds": {"": "red circle 1, red heart 1, yellow star 1, green cross 1, blue square 2"},
    "number of kinds": {
        "different colors of objects": "4, red, yellow, green, blue",
        "different colours of objects": "4, red, yellow, green, blue",
        "kinds of colour": "4, red, yellow, green, blue",
        "different shapes": "5, circle, square, star, cross, heart",
        "kinds of shape": "5, circle, square, star, cross, heart",
    },
    "places": {
        "": "blue square between, red circle top left, yellow star top right, blue square bottom left, "
        "red heart bottom right, green cross bottom left"
    },
    "cells": {"": "blue square 3 1, red circle 2 2, yellow star 7 2, blue square 2 7, red heart 7 7, green cross 1 8"},
    "around": {
        "the red circle": "blue square right, yellow star right, blue square below, green cross below",
        "the yellow star": "blue square left, red circle left, red heart below",
        "the red heart": "yellow star above, blue square left, green cross left",
        "the green cross": "blue square above, red circle above, red heart right",
    },
    "sizes beside": {
        "the red circle": "blue square smaller, blue square smaller, green cross smaller",
        "the yellow star": "green cross smaller",
        "the red heart": "blue square smaller, blue square smaller, green cross smaller",
        "the green cross": "blue square larger, red circle larger, yellow star larger, blue square larger, "
        "red heart larger",
    },
    "numbers beside": {
        "red objects": "yellow fewer, green fewer, blue as many",
        "yellow objects": "red more, green as many, blue more",
        "green objects": "red more, yellow as many, blue more",
        "blue objects": "red as many, yellow fewer, green fewer",
        "circles": "square more, star as many, cross as many, heart as many",
        "squares": "circle fewer, star fewer, cross fewer, heart fewer",
        "stars": "circle as many, square more, cross as many, heart as many",
        "crosses": "circle as many, square more, star as many, heart as many",
        "hearts": "circle as many, square more, star as many, cross as many",
    },
}
"""By listing, the answer to each filling of its request. Blue squares are two, so none of them is a filling."""

WHOLE = ("reading order", "left to right", "top to bottom", "size", "colors", "shapes", "kinds", "places", "cells")


def test_every_listing_is_checked_by_hand() -> None:
    assert EXPECTED.keys() == LISTINGS.keys()


@pytest.mark.parametrize("name", LISTINGS)
def test_listing_is_that_of_a_person(name: str) -> None:
    found: dict[str, set[str]] = {}
    for seed in range(200):
        built = LISTINGS[name].build(SceneFacts(SCENE), random.Random(seed))
        assert built is not None
        slots, entries = built
        found.setdefault(" ".join(slots.values()), set()).add(", ".join(entries))
    assert found == {filling: {answer} for filling, answer in EXPECTED[name].items()}


def test_a_count_of_kinds_is_that_of_the_phrase_that_asks_for_it() -> None:
    for filling, answer in EXPECTED["number of kinds"].items():
        for request in LISTINGS["number of kinds"].requests:
            (mention,) = find_mentions(request.format_map({"things": filling}))
            assert str(mention.number(SceneFacts(SCENE))) == answer.split(", ")[0] and mention.kinds_of


def test_requests_name_what_the_answer_is_about() -> None:
    """Over many draws every request of every listing comes, filled in, with one of its answers."""
    asked: dict[str, set[str]] = {}
    for seed in range(600):
        listings = sample_listings(SCENE, random.Random(seed), num_listings=3)
        assert len({request for request, _ in listings}) == len(listings) == 3
        for request, answer in listings:
            asked.setdefault(request, set()).add(answer)
    expected: dict[str, set[str]] = {}
    for name, listing in LISTINGS.items():
        for request in listing.requests:
            for filling, answer in EXPECTED[name].items():
                slot = "things" if name in ("numbers beside", "number of kinds") else "the"
                expected.setdefault(request.format_map({slot: filling}), set()).add(answer)
    assert asked == expected


def test_the_same_stream_gives_the_same_listings_of_different_kinds() -> None:
    listings = sample_listings(SCENE, random.Random(3), num_listings=len(LISTINGS))
    assert listings == sample_listings(SCENE, random.Random(3), num_listings=len(LISTINGS))
    assert listings != sample_listings(SCENE, random.Random(4), num_listings=len(LISTINGS))
    assert len({request for request, _ in listings}) == len(LISTINGS)
    assert not sample_listings(SCENE, random.Random(3), num_listings=0)


def test_reading_order_names_every_object_cell_by_cell() -> None:
    sample = scene_sample("dev", 4, width_px=256, height_px=192, num_questions=0, phrasing="train")
    expected = []
    for row in range(6):
        for column in range(8):
            inside = [
                item
                for item in sample.scene.objects
                if (int(item.center_y_px // 32), int(item.center_x_px // 32)) == (row, column)
            ]
            expected += [f"{item.color} {item.shape}" for item in sorted(inside, key=lambda item: item.center_x_px)]
    built = LISTINGS["reading order"].build(SceneFacts(sample.scene), random.Random(0))
    assert built == ({}, expected)
    assert len(sample.scene.objects) > 1


def test_empty_scene_has_nothing_to_list_and_nothing_to_list_beside() -> None:
    listings = sample_listings(replace(SCENE, objects=()), random.Random(0), num_listings=len(LISTINGS))
    wholes = {request for name in WHOLE for request in LISTINGS[name].requests}
    answers = [answer for request, answer in listings if request in wholes]
    assert len(answers) == len(WHOLE) and set(answers) == {EMPTY_LISTING}
    ((request, answer),) = [listing for listing in listings if listing[0] not in wholes]
    assert answer == "0" and any(kinds in request for kinds in EXPECTED["number of kinds"])


def test_one_object_alone_has_nothing_beside_it() -> None:
    alone = SceneFacts(replace(SCENE, objects=SCENE.objects[:1]))
    for name in ("around", "sizes beside", "numbers beside"):
        built = LISTINGS[name].build(alone, random.Random(0))
        assert built is not None and built[1] == []
