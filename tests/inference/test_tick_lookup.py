"""Questions about boxes to tick are answered by what stands in their frames."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.questions import is_yes_or_no
from fastvlm.inference.statement_lookup import check_statement
from fastvlm.processing.text_lines import Box

OPTIONS = {"Newsletter": True, "Express delivery": False, "Gift wrapping": True, "Insurance": False}


def form(options: dict[str, bool] = OPTIONS) -> Page:
    """A form with a field and with boxes, as it was read."""
    image = Image.new("RGB", (400, 260), "white")
    draw = ImageDraw.Draw(image)
    lines = [ReadLine("Registration", Box(20, 10, 160, 30), 0.9), ReadLine("Name: Ada", Box(20, 50, 120, 70), 0.9)]
    for place, (name, is_ticked) in enumerate(options.items()):
        top = 90 + 36 * place
        draw.rectangle((20, top, 36, top + 16), outline="black")
        if is_ticked:
            draw.line((23, top + 3, 33, top + 13), fill="black", width=2)
            draw.line((23, top + 13, 33, top + 3), fill="black", width=2)
        lines.append(ReadLine(name, Box(48, top - 1, 200, top + 18), 0.9))
    return Page(lines, np.asarray(image))


def answer(question: str, on: Page) -> str | None:
    if is_yes_or_no(question):
        verdict = check_statement(question, on)
        return None if verdict is None else "yes" if verdict.is_so else "no"
    found = look_up(question, on)
    return None if found is None else found.text


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many boxes are ticked?", "2"),
        ("How many options were chosen?", "2"),
        ("Please count the checked boxes.", "2"),
        ("Ticked boxes?", "2"),
        ("How many boxes are not ticked?", "2"),
        ("How many checkboxes are unchecked?", "2"),
        ("Which boxes are ticked?", "Newsletter, Gift wrapping"),
        ("What options are unselected?", "Express delivery, Insurance"),
        ("Is Newsletter ticked?", "yes"),
        ("Is the box for Express delivery checked?", "no"),
        ("Has Gift wraping been selected?", "yes"),  # written wrong by who asks
        ("Insurance ticked?", "no"),
        ("Is Insurance unticked?", "yes"),
        ("Is Newsletter not ticked?", "no"),
    ],
)
def test_ticks_are_told(question: str, expected: str) -> None:
    assert answer(question, form()) == expected


@pytest.mark.parametrize(
    "question",
    [
        "Is Breakfast ticked?",  # which has no box
        "How many boxes are ticked by Ada?",
        "How many men ticked a box?",
        "What is the name?",
        "Who marked this?",
    ],
)
def test_other_questions_are_not_about_ticks(question: str) -> None:
    assert answer(question, form()) in (None, "Ada")


def test_of_no_ticks_there_are_none() -> None:
    empty = form(dict.fromkeys(OPTIONS, False))
    assert answer("How many boxes are ticked?", empty) == "0"
    assert answer("Which boxes are ticked?", empty) == "none"


def test_without_boxes_or_a_picture_nothing_is_told() -> None:
    without = Page(form().lines, np.full((260, 400, 3), 255, dtype=np.uint8))
    assert answer("How many boxes are ticked?", without) is None
    assert answer("How many boxes are ticked?", Page(form().lines)) is None


def test_a_box_that_was_read_with_its_name_is_no_part_of_it() -> None:
    page = form({"Newsletter": True})
    joined = [*page.lines[:2], ReadLine("M Newsletter", Box(20, 89, 200, 108), 0.6)]
    assert answer("Which box is ticked?", Page(joined, page.picture)) == "Newsletter"
