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
        ("Newsletter isn't ticked, right?", "no"),
        ("Isn’t Insurance ticked?", "yes"),
        ("Is Newsletter ticked or not?", "yes"),
        ("Is Insurance ticked or unticked?", "no"),
        ("Is Newsletter unchosen?", "no"),
        ("Which boxes aren't ticked?", "Express delivery, Insurance"),
    ],
)
def test_ticks_are_told(question: str, expected: str) -> None:
    assert answer(question, form()) == expected


@pytest.mark.parametrize(
    "question",
    [
        "Is Breakfast ticked?",  # which has no box
        "Is Gift card ticked?",
        "Is Express checkout selected?",
        "How many boxes are ticked by Ada?",
        "How many men ticked a box?",
        "How many people checked in?",
        "How many guests were selected?",
        "Is the number of ticked boxes 2?",
        "Is there a box which is ticked?",
        "Do you see how many boxes are ticked?",
        "Are Newsletter and Insurance ticked?",
        "Is it false that Newsletter is ticked?",
        "When was Newsletter selected?",
        "What price is marked for Gift wrapping?",
        "Which is ticked, Insurance or Newsletter?",
        "Who checked Insurance?",
        "Is Newsletter the only box ticked?",
        "Are all boxes but Insurance ticked?",
        "Was Newsletter checked by Ada?",
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


def test_a_name_may_say_not_and_be_a_word_of_questions() -> None:
    names = {"Do not call": True, "Not applicable": False, "Morning": True, "Help": False}
    assert answer("Is Do not call ticked?", form(names)) == "yes"
    assert answer("Is Not applicable ticked?", form(names)) == "no"
    assert answer("Is Morning ticked?", form(names)) == "yes"
    assert answer("Is Help checked?", form(names)) == "no"


def rows_of_two(*rows: tuple[str, bool, bool], is_behind: bool) -> Page:
    """Rows of a label, and of a box each for yes and for no, which stands before its name or behind it."""
    image = Image.new("RGB", (420, 40 + 40 * len(rows)), "white")
    draw = ImageDraw.Draw(image)
    lines = []
    for place, (label, yes, no) in enumerate(rows):
        top = 20 + 40 * place
        lines.append(ReadLine(label, Box(20, top - 1, 90, top + 18), 0.9))
        for left, name, is_ticked in ((140, "Yes", yes), (260, "No", no)):
            box_left, name_left = (left + 36, left) if is_behind else (left, left + 24)
            draw.rectangle((box_left, top, box_left + 16, top + 16), outline="black")
            if is_ticked:
                draw.line((box_left + 3, top + 3, box_left + 13, top + 13), fill="black", width=3)
            lines.append(ReadLine(name, Box(name_left, top - 1, name_left + 30, top + 18), 0.9))
    return Page(lines, np.asarray(image))


@pytest.mark.parametrize("is_behind", [False, True])
def test_names_stand_before_their_boxes_or_behind(is_behind: bool) -> None:
    one = rows_of_two(("Smoker", True, False), is_behind=is_behind)
    assert answer("Is Yes ticked?", one) == "yes" and answer("Is No ticked?", one) == "no"
    assert answer("Which boxes are ticked?", one) == "Yes"
    two = rows_of_two(("Smoker", True, False), ("Driver", False, True), is_behind=is_behind)
    assert answer("How many boxes are ticked?", two) == "2"
    for question in ("Is Yes ticked?", "Is Yes ticked for Driver?", "Is No ticked for Smoker?"):
        assert answer(question, two) is None


def test_a_name_is_whole_where_its_box_was_not_read() -> None:
    page = form({"Gift wrapping": True})
    joined = [*page.lines[:2], ReadLine("Gift wrapping", Box(20, 89, 200, 108), 0.6)]
    assert answer("Which box is ticked?", Page(joined, page.picture)) == "Gift wrapping"
