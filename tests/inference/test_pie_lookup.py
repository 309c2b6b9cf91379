"""Pies are read off their legend, or where shares stand on slices and names around them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.pie_lookup import find_pie
from fastvlm.processing.text_lines import Box
from read_pages import page

SHARES = {"Jam": 40, "Oats": 25, "Salt": 20, "Tea": 15}


def around(shares: dict[str, str] | None = None, *, title: str = "Kitchen goods") -> Page:
    """A pie with a radius of 90 px whose names stand around it."""
    image = Image.new("RGB", (400, 300), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    lines, start = [centred(title, 200, 14)], 0.0
    for number, (name, share) in enumerate(SHARES.items()):
        colour = tuple(60 + (70 * number + 50 * channel) % 160 for channel in range(3))
        draw.pieslice((110, 70, 290, 250), start, start + 3.6 * share, fill=colour)
        middle = math.radians(start + 1.8 * share)
        said = (shares or {}).get(name, f"{share}%")
        for text, radius in ((said, 55), (name, 112)):
            lines.append(centred(text, 200 + radius * math.cos(middle), 160 + radius * math.sin(middle)))
        start += 3.6 * share
    return Page(lines, np.asarray(image))


def centred(text: str, x: float, y: float) -> ReadLine:
    half = 4 * len(text)
    return ReadLine(text, Box(round(x - half), round(y - 6), round(x + half), round(y + 6)), 0.9)


def answer(question: str, on: Page) -> str | None:
    found = look_up(question, on)
    return None if found is None else found.text


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the value of Oats?", "25%"),
        ("Which has the highest value?", "Jam"),
        ("Which is the smallest?", "Tea"),
        ("How many categories are there?", "4"),
        ("How many slices are there?", "4"),
        ("What is the title?", "Kitchen goods"),
    ],
)
def test_a_name_is_that_of_the_slice_in_its_direction(question: str, expected: str) -> None:
    assert answer(question, around()) == expected


def test_a_point_too_many_is_seen_by_the_sum() -> None:
    assert answer("What is the value of Salt?", around({"Jam": "4.0%", "Salt": "2.0%"})) == "20%"


def test_without_its_picture_or_without_names_there_is_no_pie() -> None:
    pie = around()
    assert len(find_pie(pie)) == 4
    assert find_pie(Page(pie.lines)) == []
    assert find_pie(Page([line for line in pie.lines if line.text != "Jam"], pie.picture)) == []
    assert find_pie(Page(pie.lines, np.full_like(pie.picture, 255))) == []


def test_of_a_legend_that_was_read_in_part_nothing_is_the_largest() -> None:
    legend = page("Goods", "Jam 25%", "Oats 24%", "Salt 9%")
    assert answer("Which has the highest value?", legend) is None
    assert answer("How many categories are there?", legend) is None
    assert answer("What is the value of Jam?", legend) == "25%"
    whole = page("Goods", "Jam 35%", "Oats 44%", "Salt 21%")
    assert answer("Which has the highest value?", whole) == "Oats"
    assert answer("How many categories are there?", whole) == "3"
