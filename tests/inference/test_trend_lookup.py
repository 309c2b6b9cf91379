"""Whether a chart goes up or down is told by what was measured of it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastvlm.inference.line_lookup import look_up
from fastvlm.inference.page import Page, ReadLine
from fastvlm.inference.questions import is_yes_or_no
from fastvlm.inference.trend_lookup import trend_of
from fastvlm.processing.text_lines import Box


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], "up"),
        ([9, 7, 8, 4, 2], "down"),
        ([1, 2, None, 4], "up"),
        ([1, None, None, 4], None),
        ([5, 9, 5], None),
        ([100, 101, 102], None),  # hardly at all
        ([9, 1, 2, 3, 4, 8], None),  # one step down, four up
        ([1, 2], None),
        ([-5, -3, -1], "up"),
        ([], None),
    ],
)
def test_most_steps_and_both_ends_tell_where_it_goes(values: list[float | None], expected: str | None) -> None:
    assert trend_of(values) == expected


def chart(heights: list[int]) -> Page:
    """A line over five years, from 0 to 40, with its axis read."""
    image = Image.new("RGB", (420, 300), "white")
    draw = ImageDraw.Draw(image)
    points = [(80 + 70 * place, 240 - 5 * height) for place, height in enumerate(heights)]
    draw.line(points, fill=(30, 90, 200), width=3)
    for x, y in points:
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=(30, 90, 200))
    lines = [ReadLine(str(value), Box(20, 233 - 5 * value, 40, 247 - 5 * value), 0.9) for value in (0, 10, 20, 30, 40)]
    for place in range(len(heights)):
        lines.append(ReadLine(f"Q{place}", Box(70 + 70 * place, 252, 90 + 70 * place, 266), 0.9))
    return Page(lines, np.asarray(image))


@pytest.mark.parametrize(
    "question",
    ["Does the line go up or down?", "What is the trend?", "Is it falling or rising?", "Which way does the line go?"],
)
@pytest.mark.parametrize(("heights", "expected"), [([5, 12, 20, 26, 38], "up"), ([36, 30, 31, 14, 6], "down")])
def test_the_way_that_a_line_goes_is_told(question: str, heights: list[int], expected: str) -> None:
    assert not is_yes_or_no(question)
    found = look_up(question, chart(heights))
    assert found is not None and found.text == expected


@pytest.mark.parametrize(
    "question",
    [
        "When does the upward trend end?",
        "Which quarter breaks the trend?",
        "How long does the trend last?",
        "Did it rise or fall from Q3 to Q4?",
        "Does it go up or down between Q3 and Q4?",
    ],
)
def test_a_part_of_a_chart_or_its_trend_is_another_question(question: str) -> None:
    assert look_up(question, chart([5, 12, 20, 38, 30])) is None


def test_a_claim_about_a_trend_is_a_question_for_yes_or_no() -> None:
    for question in ("Is there an upward trend?", "Does the chart show a downward trend?", "Is it from Trend Store?"):
        assert is_yes_or_no(question) and look_up(question, chart([5, 12, 20, 26, 38])) is None


def test_a_line_without_a_trend_has_none() -> None:
    assert look_up("What is the trend?", chart([20, 36, 8, 30, 21])) is None
