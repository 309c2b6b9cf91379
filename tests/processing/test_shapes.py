"""Shapes of drawn scenes are told by their outlines and colours, and other pictures are no such scenes."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fastvlm.batches import UInt8Array
from fastvlm.data.synthetic.shapes import ShapeForm, outline, sample_form
from fastvlm.processing.colour_names import colour_of
from fastvlm.processing.shape_names import SHAPES
from fastvlm.processing.shapes import Drawing, find_drawing
from fastvlm.processing.text_lines import Box

COLOURS = {
    "red": (220, 20, 60), "orange": (255, 140, 0), "yellow": (255, 215, 0), "green": (34, 139, 34),
    "blue": (65, 105, 225), "purple": (128, 0, 128), "pink": (255, 105, 180), "brown": (139, 69, 19),
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128),
}  # fmt: skip


BADGE_FONT = ImageFont.load_default(48)


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


def drawing(picture: UInt8Array) -> Drawing:
    """What is found of a picture that is a drawn scene."""
    found = find_drawing(picture)
    assert found is not None
    return found


def names_of(picture: UInt8Array) -> list[tuple[str, str]]:
    """Names and colours of the shapes that are found, in the order of the alphabet."""
    return sorted((shape.name, shape.colour) for shape in drawing(picture).shapes)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("radius", [8, 12, 20, 45])
def test_a_shape_is_told_however_it_is_turned(name: str, radius: float) -> None:
    right = 0
    for seed in range(12):
        (found,) = drawing(scene((name, COLOURS["blue"], 150, 100, radius), seed=seed)).shapes
        right += found.name == name and found.is_plain
        assert abs((found.box.left + found.box.right) / 2 - 150) <= 3
    assert right >= 11


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_have_the_names_that_people_give_them(colour: str) -> None:
    assert colour_of(COLOURS[colour]) == colour
    assert names_of(scene(("circle", COLOURS[colour], 150, 100, 30), ground=(60, 90, 90))) == [("circle", colour)]


def test_a_shaded_white_is_white_and_a_shaded_black_is_black() -> None:
    assert [colour_of((200, 198, 205)), colour_of((200, 198, 205), is_lit_evenly=False)] == ["grey", "white"]
    assert [colour_of((70, 70, 75)), colour_of((70, 70, 75), is_lit_evenly=False)] == ["grey", "black"]
    assert colour_of((150, 75, 25), is_lit_evenly=False) == "brown"


def test_shapes_that_touch_are_counted_one_by_one() -> None:
    red, blue = COLOURS["red"], COLOURS["blue"]
    towers = (
        ("circle", red, 60, 40, 20), ("circle", red, 60, 81, 20), ("square", blue, 60, 122, 20),
        ("ring", blue, 200, 60, 20), ("ring", blue, 200, 100, 20),
    )  # fmt: skip
    assert names_of(scene(*towers)) == [
        ("circle", "red"), ("circle", "red"), ("ring", "blue"), ("ring", "blue"), ("square", "blue"),
    ]  # fmt: skip


def test_rings_that_touch_have_places_of_their_own() -> None:
    blue = COLOURS["blue"]
    shapes = drawing(scene(("ring", blue, 200, 60, 20), ("ring", blue, 200, 100, 20))).shapes
    assert [shape.name for shape in shapes] == ["ring", "ring"]
    assert [(shape.box.top + shape.box.bottom) / 2 for shape in shapes] == pytest.approx([60, 100], abs=3)


def test_a_small_shape_that_touches_a_large_one_is_one() -> None:
    found = names_of(scene(("square", COLOURS["green"], 100, 100, 40), ("circle", COLOURS["black"], 149, 100, 8)))
    assert found == [("circle", "black"), ("square", "green")]


@pytest.mark.parametrize("name", ["circle", "square"])
@pytest.mark.parametrize("goes_down", [True, False])
def test_shapes_of_one_colour_in_a_row_have_places_of_their_own(name: str, goes_down: bool) -> None:
    image = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(image)
    for place in range(3):
        x, y = (50, 30 + 28 * place) if goes_down else (30 + 28 * place, 50)
        (draw.ellipse if name == "circle" else draw.rectangle)((x, y, x + 28, y + 28), fill="blue")
    if name == "square":
        assert find_drawing(np.asarray(image)) is None  # it may be a rectangle
    draw.rectangle((150, 150, 178, 178), fill="red")
    shapes = [shape for shape in drawing(np.asarray(image)).shapes if shape.colour == "blue"]
    assert [shape.name for shape in shapes] == [name] * 3
    starts = [shape.box.top if goes_down else shape.box.left for shape in shapes]
    assert starts == pytest.approx([30, 58, 86], abs=2)


def test_a_bar_is_no_row_of_squares() -> None:
    image = Image.new("RGB", (300, 100), "white")
    ImageDraw.Draw(image).rectangle((20, 40, 280, 55), fill="blue")
    assert find_drawing(np.asarray(image)) is None


def test_shapes_that_touch_the_line_of_a_panel_are_told() -> None:
    image = Image.new("RGB", (320, 192), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    for place in range(3):
        draw.rectangle((8 + 104 * place, 8, 104 + 104 * place, 184), outline=(90, 90, 90))
    draw.ellipse((20, 154, 50, 184), fill="red")
    draw.polygon([(250, 20), (280, 70), (220, 70)], fill="blue")
    assert names_of(np.asarray(image)) == [("circle", "red"), ("triangle", "blue")]


def test_panels_and_a_ground_that_changes_are_no_shapes() -> None:
    image = Image.fromarray(scene(("star", COLOURS["purple"], 60, 60, 20), ("heart", COLOURS["red"], 200, 60, 20)))
    paneled = Image.new("RGB", (300, 240), (90, 90, 90))
    paneled.paste(image.crop((20, 20, 110, 110)), (20, 20))
    paneled.paste(image.crop((160, 20, 250, 110)).resize((90, 200)), (160, 20))
    assert names_of(np.asarray(paneled)) == [("heart", "red"), ("star", "purple")]
    shaded = scene(("star", COLOURS["purple"], 60, 60, 20)).astype(np.float32)
    shade = np.linspace(-40, 30, 300)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 3, shaded.shape)
    assert names_of(np.clip(shaded + shade + noise, 0, 255).astype(np.uint8)) == [("star", "purple")]


def test_empty_panels_are_no_squares() -> None:
    image = Image.new("RGB", (640, 120), "white")
    draw = ImageDraw.Draw(image)
    for place in range(4):
        draw.rectangle((16 + 156 * place, 6, 120 + 156 * place, 114), fill=(222, 222, 222))
    draw.rectangle((540, 50, 580, 90), fill="black")
    found = drawing(np.asarray(image))
    assert [(shape.name, shape.colour) for shape in found.shapes] == [("square", "black")]
    assert found.ground is None


def test_the_ground_has_a_name_and_strips_beside_it_are_not_of_the_picture() -> None:
    inner = Image.fromarray(scene(("star", COLOURS["purple"], 60, 60, 20), ground=(255, 192, 203)))
    assert (drawing(np.asarray(inner)).ground, drawing(np.asarray(inner)).frame) == ("pink", Box(0, 0, 300, 200))
    for place, frame in (((30, 0), (30, 0, 330, 200)), ((0, 40), (0, 40, 300, 240))):
        padded = Image.new("RGB", (300 + 2 * place[0], 200 + 2 * place[1]), "black")
        padded.paste(inner, place)
        found = drawing(np.asarray(padded))
        assert found.ground == "pink"
        assert tuple(found.frame) == pytest.approx(frame, abs=2)


def test_an_empty_panel_at_the_side_is_no_strip() -> None:
    image = Image.new("RGB", (640, 294), (128, 128, 128))
    draw = ImageDraw.Draw(image)
    for left in (0, 240, 480):
        draw.rectangle((left, 0, left + 159, 294), fill=(211, 211, 211))
    draw.polygon([(560, 80), (600, 200), (520, 200)], fill="blue")
    found = drawing(np.asarray(image))
    assert found.frame == Box(0, 0, 640, 294)
    assert found.ground == "grey"


def test_pages_and_photos_are_no_scenes() -> None:
    page = Image.new("RGB", (400, 300), "white")
    for row in range(8):
        ImageDraw.Draw(page).text((10, 10 + 34 * row), "Coffee and cake 12.40", "black", ImageFont.load_default(22))
    assert find_drawing(np.asarray(page)) is None
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert find_drawing(noise) is None
    assert find_drawing(np.zeros((3000, 2000, 3), dtype=np.uint8)) is None
    assert find_drawing(np.zeros((3, 300, 3), dtype=np.uint8)) is None


@pytest.mark.parametrize("text", ["JERA", "Story", "56", "$9.27", "Boy Jin", "8", "III", "Hello"])
@pytest.mark.parametrize("size_px", [13, 30, 64, 90])
def test_signs_are_no_scenes(text: str, size_px: int) -> None:
    sign = Image.new("RGB", (60 + 5 * size_px, 120), "navy")
    ImageDraw.Draw(sign).text((20, 10), text, "white", ImageFont.load_default(size_px))
    assert find_drawing(np.asarray(sign)) is None


def test_words_beside_shapes_are_no_scene() -> None:
    page = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(page)
    for row, word in enumerate(("Milk", "Bread", "Butter", "Salt", "Tea")):
        draw.ellipse((20, 20 + 50 * row, 32, 32 + 50 * row), fill="black")
        draw.text((50, 14 + 50 * row), word, "grey", ImageFont.load_default(18))
    assert find_drawing(np.asarray(page)) is None


@pytest.mark.parametrize(
    "drawn",
    [
        lambda draw: draw.rectangle((20, 20, 160, 80), fill="blue"),
        lambda draw: draw.rectangle((100, 80, 160, 100), fill="red"),
        lambda draw: draw.rectangle((0, 0, 300, 66), fill="black") or draw.rectangle((0, 134, 300, 200), fill="gold"),
        lambda draw: draw.rectangle((20, 20, 150, 150), fill="red") or draw.ellipse((60, 60, 110, 110), fill="blue"),
        lambda draw: draw.regular_polygon((150, 100, 30), 6, fill="green"),
        lambda draw: draw.regular_polygon((150, 100, 40), 8, fill="red"),
        lambda draw: draw.regular_polygon((150, 100, 30), 5, fill="green"),
        lambda draw: draw.ellipse((100, 70, 200, 130), fill="green"),
        lambda draw: draw.pieslice((100, 50, 200, 150), 0, 180, fill="green"),
        lambda draw: draw.ellipse((100, 60, 170, 130), fill="red", outline="black", width=8),
        lambda draw: draw.ellipse((100, 60, 170, 130), fill="red") or draw.rectangle((110, 88, 160, 102), fill="white"),
        lambda draw: draw.ellipse((100, 60, 160, 120), fill="red") or draw.text((116, 62), "3", "white", BADGE_FONT),
        lambda draw: draw.rectangle((100, 60, 150, 110), outline="black", width=2),
        lambda draw: draw.line([(20, 20), (120, 90), (260, 40)], fill="black", width=3),
        lambda draw: (
            draw.rectangle((110, 50, 135, 150), fill="black") or draw.rectangle((165, 50, 190, 150), fill="black")
        ),
    ],
)
def test_what_is_no_such_shape_or_not_on_a_ground_is_left_alone(drawn: Callable[[ImageDraw.ImageDraw], None]) -> None:
    image = Image.new("RGB", (300, 200), "white")
    drawn(ImageDraw.Draw(image))
    assert find_drawing(np.asarray(image)) is None


def test_a_blurred_photo_is_no_empty_scene() -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(60, 200, (5, 8, 3), dtype=np.uint8))
    assert find_drawing(np.asarray(small.resize((320, 200), Image.Resampling.BICUBIC))) is None


def test_an_empty_scene_has_none() -> None:
    assert drawing(np.full((200, 300, 3), 120, dtype=np.uint8)) == Drawing((), Box(0, 0, 300, 200), "grey")


def test_every_form_of_a_star_is_one() -> None:
    for turn in (-36.0, -18.0, 0.0, 18.0):
        points = [(150 + 40 * x, 100 + 40 * y) for x, y in outline("star", ShapeForm(0.4, turn))]
        image = Image.new("RGB", (300, 200), "white")
        ImageDraw.Draw(image).polygon(points, fill="green")
        assert names_of(np.asarray(image)) == [("star", "green")]
