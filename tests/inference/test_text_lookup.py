"""Short texts, lines by their number, titles and the word after another are found on a page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.processing.text_lines import Box


def page(*rows: str, sure: float = 0.9) -> Page:
    return Page([ReadLine(text, Box(10, 30 * row, 200, 30 * row + 20), sure) for row, text in enumerate(rows)])


SIGN = page("NO", "ENTRY", "9-17 h")
PROSE = page(
    "On harbours", "the morning boat left early and", "nobody saw the captain wave", "while gulls cried above us", "12"
)


@pytest.mark.parametrize(
    ("question", "on", "expected"),
    [
        ("What does the sign say?", SIGN, "NO ENTRY 9-17 h"),
        ("What is written on the sign?", SIGN, "NO ENTRY 9-17 h"),
        ("Read the text.", page("JERA"), "JERA"),
        ("Can you read the line?", page("JERA"), "JERA"),
        ("text of the line", page("JERA"), "JERA"),
        ("Which words are on the sign?", SIGN, "NO ENTRY 9-17 h"),
        ("What does the second line say?", SIGN, "ENTRY"),
        ("Read the last line.", PROSE, "12"),
        ("What is the fifth line?", SIGN, None),
        ("Which word comes after boat?", PROSE, "left"),
        ("What follows the word captain?", PROSE, "wave"),
        ("After gulls, what comes next?", PROSE, "cried"),
        ("Tell me the word after capton.", PROSE, "wave"),
        ("Which word comes after walrus?", PROSE, None),
        ("Which word comes after the boat?", PROSE, "left"),
        ("Which word comes after wave?", PROSE, None),  # it is the last one of its line
        ("What does Name say?", page("Name: Ada", "City: London", "Age: 36"), "Ada"),
        ("Read the text.", SIGN, "NO\nENTRY\n9-17 h"),
        ("What is the title?", PROSE, "On harbours"),
        ("What is the title?", page("17", "18", "19"), None),
        ("What is the title?", Page([*PROSE.lines, ReadLine("beside", Box(300, 0, 400, 20), 0.9)]), None),
    ],
)
def test_text_is_found_by_where_it_stands(question: str, on: Page, expected: str | None) -> None:
    found = look_up(question, on)
    assert (None if found is None else found.text) == expected


def test_a_text_of_several_lines_is_as_likely_as_all_of_them() -> None:
    found = look_up("What does the sign say?", SIGN)
    assert found is not None and found.confidence == pytest.approx(0.9**3)
    assert found.line.box == Box(10, 0, 200, 80)


@pytest.mark.parametrize(
    "question",
    [
        "What colour is the sign?", "How many signs are there?", "Is there a sign?", "What is on the picture?",
        "What is written last?", "What is the last word on the sign?", "What colour is the text on the sign?",
        "In what colour is it written?", "What is written above ENTRY?", "What language is it written in?",
        "Is the text on the sign red?", "What does the arrow say for ENTRY?", "How many words are in the first line?",
        "Is the last line in capitals?", "What is the second to last line?", "What comes after Ada Lovelace?",
    ],
)  # fmt: skip
def test_other_questions_about_a_short_text_are_left_to_one_look(question: str) -> None:
    assert look_up(question, SIGN) is None


def test_an_arrow_below_a_text_is_no_letter_of_it() -> None:
    lines = [*SIGN.lines, ReadLine("4", Box(90, 90, 120, 130), 0.2)]
    short = Page([lines[0], lines[3]])
    assert (found := look_up("What does the sign say?", short)) is not None and found.text == "NO"
    surely = Page([lines[0], replace(lines[3], confidence=0.9)])
    assert (found := look_up("What does the sign say?", surely)) is not None and found.text == "NO 4"


@pytest.mark.parametrize(
    ("ground", "ink", "ground_name", "ink_name"),
    [
        ((240, 240, 240), (30, 30, 30), "white", "black"),
        ((20, 20, 25), (245, 225, 60), "black", "yellow"),
        ((30, 70, 190), (250, 250, 250), "blue", "white"),
        ((200, 30, 40), (255, 255, 255), "red", "white"),
        ((30, 120, 50), (240, 240, 230), "green", "white"),
        ((245, 150, 30), (10, 10, 10), "orange", "black"),
        ((110, 70, 30), (250, 240, 220), "brown", "white"),
        ((120, 40, 160), (240, 240, 240), "purple", "white"),
        ((250, 190, 205), (20, 20, 60), "pink", "blue"),
        ((130, 130, 130), (250, 250, 250), "grey", "white"),
    ],
)
def test_the_colour_of_a_sign_and_of_its_text(
    ground: tuple[int, int, int], ink: tuple[int, int, int], ground_name: str, ink_name: str
) -> None:
    image = Image.new("RGB", (200, 80), ground)
    ImageDraw.Draw(image).text((30, 20), "EXIT", ink, ImageFont.load_default(36))
    noise = np.random.default_rng(0).normal(0, 4, (80, 200, 3))
    picture = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    sign = Page([ReadLine("EXIT", Box(30, 26, 110, 56), 0.9)], picture)
    for question, expected in (
        ("What colour is the sign?", ground_name), ("On which colour is it written?", ground_name),
        ("What color is the text?", ink_name), ("In which colour is it written?", ink_name),
        ("Which colour do the letters have?", ink_name),
    ):  # fmt: skip
        assert (found := look_up(question, sign)) is not None and found.text == expected
    for question in ("What colour is the car?", "What does the sign cost?"):
        assert look_up(question, sign) is None
    assert look_up("What colour is the sign?", Page([], picture)) is None
