"""Where an arrow points is seen by its shape."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fastvlm.inference.arrow_lookup import asks_for_arrow
from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.processing.text_lines import Box

RIGHT = ((0, 12), (22, 12), (22, 2), (44, 18), (22, 34), (22, 24), (0, 24))
HEAD = ((0, 0), (30, 18), (0, 36))
TURNS = {"right": 0, "up": 1, "left": 2, "down": 3}
Points = tuple[tuple[int, int], ...]


def sign(shape: Points, towards: str, *, ground: tuple[int, int, int] = (20, 90, 200), noise: float = 0) -> Page:
    """A sign with a text and an arrow that was turned."""
    ink = (250, 250, 250) if sum(ground) < 400 else (20, 20, 20)
    arrow = Image.new("RGB", (48, 48), ground)
    ImageDraw.Draw(arrow).polygon([(x + 2, y + 6) for x, y in shape], fill=ink)
    image = Image.new("RGB", (280, 170), (120, 120, 120))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((8, 8, 271, 161), 8, fill=ground, outline=ink)
    draw.text((60, 26), "EXIT 24", fill=ink, font=ImageFont.load_default(36))
    image.paste(arrow.rotate(90 * TURNS[towards]), (116, 96))
    pixels = np.asarray(image).astype(np.float32) + np.random.default_rng(0).normal(0, noise, (170, 280, 3))
    return Page([ReadLine("EXIT 24", Box(58, 26, 210, 66), 0.9)], np.clip(pixels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("towards", TURNS)
@pytest.mark.parametrize("shape", [RIGHT, HEAD])
@pytest.mark.parametrize("ground", [(20, 90, 200), (245, 245, 245), (250, 210, 0), (10, 10, 10)])
@pytest.mark.parametrize("noise", [0, 12])
def test_the_side_is_told_that_an_arrow_points_to(
    towards: str, shape: Points, ground: tuple[int, int, int], noise: float
) -> None:
    found = look_up("Where does the arrow point?", sign(shape, towards, ground=ground, noise=noise))
    assert found is not None and found.text == towards
    assert found.line.box.left >= 110 and found.line.box.top >= 90


def test_shapes_that_point_nowhere_are_no_arrows() -> None:
    square: Points = ((0, 0), (30, 0), (30, 30), (0, 30))
    assert look_up("Where does the arrow point?", sign(square, "right")) is None


def test_letters_are_no_arrows() -> None:
    page = sign(RIGHT, "left")
    assert page.picture is not None
    without = page.picture.copy()
    without[90:150, 100:180] = without[80, 60]
    assert look_up("Which way does the arrow point?", Page(page.lines, without)) is None


@pytest.mark.parametrize(
    ("question", "is_asked"),
    [
        ("In which direction does the arrow point?", True),
        ("To which side does the arrow point?", True),
        ("direction of the arrow?", True),
        ("Where would the arrow lead me?", True),
        ("What colour is the arrow?", False),
        ("What colour is the arrow that points left?", False),
        ("What is written beside the arrow that points left?", False),
        ("Which word does the arrow point at?", False),
        ("Where is the sign with an arrow?", False),
        ("Is there an arrow?", False),
        ("What does the sign say?", False),
    ],
)
def test_only_where_it_points_is_asked_for(question: str, is_asked: bool) -> None:
    assert asks_for_arrow(question) is is_asked


@pytest.mark.parametrize("letter", "ABCDETVWM3")
def test_a_letter_that_was_read_is_no_arrow(letter: str) -> None:
    page = sign(RIGHT, "left")
    assert page.picture is not None
    image = Image.fromarray(page.picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((16, 16, 264, 92), fill=(20, 90, 200))
    draw.text((120, 10), letter, fill=(250, 250, 250), font=ImageFont.load_default(72))
    box = Box(*map(int, draw.textbbox((120, 10), letter, font=ImageFont.load_default(72))))
    found = look_up("Where does the arrow point?", Page([ReadLine(letter, box, 0.95)], np.asarray(image)))
    assert found is not None and found.text == "left"


def test_of_two_arrows_neither_is_meant() -> None:
    page = sign(RIGHT, "left")
    assert page.picture is not None
    two = page.picture.copy()
    two[96:144, 40:88] = np.rot90(two[96:144, 116:164])
    assert look_up("Where does the arrow point?", Page(page.lines, two)) is None


def test_a_large_texture_takes_no_long_time() -> None:
    rows, columns = np.indices((3000, 3000))
    hatched = np.where((rows + columns) % 4 < 1, 0, 255).astype(np.uint8)
    start = time.perf_counter()
    look_up("Where does the arrow point?", Page([], np.repeat(hatched[:, :, None], 3, axis=2)))
    assert time.perf_counter() - start < 5


def test_a_page_or_a_texture_has_no_arrow() -> None:
    page = sign(RIGHT, "left")
    rows = [ReadLine("text", Box(10, 12 * row, 90, 12 * row + 10), 0.9) for row in range(8)]
    assert look_up("Where does the arrow point?", Page(rows, page.picture)) is None
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    assert look_up("Where does the arrow point?", Page([], noise)) is None
