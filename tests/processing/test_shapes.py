"""Shapes of drawn scenes are told by their outlines and colours, and other pictures are no such scenes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.shapes import ShapeForm, outline, sample_form
from fastvlm.processing.shapes import SHAPES, colour_of, find_shapes

COLOURS = {
    "red": (220, 20, 60), "orange": (255, 140, 0), "yellow": (255, 215, 0), "green": (34, 139, 34),
    "blue": (65, 105, 225), "purple": (128, 0, 128), "pink": (255, 105, 180), "brown": (139, 69, 19),
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128),
}  # fmt: skip


def scene(
    *shapes: tuple[str, tuple[int, int, int], float, float, float],
    ground: tuple[int, int, int] = (200, 210, 220),
    seed: int | None = None,
) -> UInt8Array:
    """Shapes by name, colour, middle and radius, drawn four times as large and made smaller; turned where seeded."""
    image = Image.new("RGB", (1200, 800), ground)
    draw = ImageDraw.Draw(image)
    rng = random.Random(seed)
    for name, colour, x, y, radius in shapes:
        form = sample_form(rng, shape=name, rotated=seed is not None)
        points = [(4 * (x + radius * across), 4 * (y + radius * down)) for across, down in outline(name, form)]
        draw.polygon(points, fill=colour)
        if name == "ring":
            hole = 4 * radius * form.proportion
            draw.ellipse((4 * x - hole, 4 * y - hole, 4 * x + hole, 4 * y + hole), fill=ground)
    return np.asarray(image.resize((300, 200), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("radius", [12, 20, 45])
def test_a_shape_is_told_however_it_is_turned(name: str, radius: float) -> None:
    right = 0
    for seed in range(12):
        found = find_shapes(scene((name, COLOURS["blue"], 150, 100, radius), seed=seed))
        assert found is not None and len(found) == 1
        right += found[0].name == name
        assert abs((found[0].box.left + found[0].box.right) / 2 - 150) <= 3
    assert right >= 11


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_have_the_names_that_people_give_them(colour: str) -> None:
    assert colour_of(COLOURS[colour]) == colour
    found = find_shapes(scene(("circle", COLOURS[colour], 150, 100, 30), ground=(60, 90, 90)))
    assert found is not None and [(one.name, one.colour) for one in found] == [("circle", colour)]


def test_shapes_that_touch_are_counted_one_by_one() -> None:
    red, blue = COLOURS["red"], COLOURS["blue"]
    towers = (
        ("circle", red, 60, 40, 20), ("circle", red, 60, 81, 20), ("square", blue, 60, 122, 20),
        ("ring", blue, 200, 60, 20), ("ring", blue, 200, 100, 20),
    )  # fmt: skip
    found = find_shapes(scene(*towers))
    assert found is not None
    assert sorted((one.colour, one.name) for one in found) == [
        ("blue", "ring"), ("blue", "ring"), ("blue", "square"), ("red", "circle"), ("red", "circle"),
    ]  # fmt: skip


def test_panels_and_a_ground_that_changes_are_no_shapes() -> None:
    image = Image.fromarray(scene(("star", COLOURS["purple"], 60, 60, 20), ("heart", COLOURS["red"], 200, 60, 20)))
    paneled = Image.new("RGB", (300, 240), (90, 90, 90))
    paneled.paste(image.crop((20, 20, 110, 110)), (20, 20))
    paneled.paste(image.crop((160, 20, 250, 110)).resize((90, 200)), (160, 20))
    found = find_shapes(np.asarray(paneled))
    assert found is not None and [one.name for one in found] == ["star", "heart"]
    shaded = scene(("star", COLOURS["purple"], 60, 60, 20)).astype(np.float32)
    shade = np.linspace(-40, 30, 300)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 3, shaded.shape)
    found = find_shapes(np.clip(shaded + shade + noise, 0, 255).astype(np.uint8))
    assert found is not None and [one.name for one in found] == ["star"]


def test_pages_and_photos_are_no_scenes() -> None:
    page = Image.new("RGB", (400, 300), "white")
    for row in range(8):
        ImageDraw.Draw(page).text((10, 10 + 34 * row), "Coffee and cake 12.40", "black", ImageFont.load_default(22))
    assert find_shapes(np.asarray(page)) is None
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert find_shapes(noise) is None
    assert find_shapes(np.zeros((3000, 2000, 3), dtype=np.uint8)) is None
    assert find_shapes(np.zeros((3, 300, 3), dtype=np.uint8)) is None


def test_an_empty_scene_has_none() -> None:
    assert find_shapes(np.full((200, 300, 3), 120, dtype=np.uint8)) == []


def test_every_form_of_a_star_is_one() -> None:
    for turn in (-36.0, -18.0, 0.0, 18.0):
        points = [(150 + 40 * x, 100 + 40 * y) for x, y in outline("star", ShapeForm(0.4, turn))]
        image = Image.new("RGB", (300, 200), "white")
        ImageDraw.Draw(image).polygon(points, fill="green")
        found = find_shapes(np.asarray(image))
        assert found is not None and [(one.name, one.colour) for one in found] == [("star", "green")]
