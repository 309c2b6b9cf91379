"""Numbers whose last digit was read twice are too narrow for what was read."""

from __future__ import annotations

import pytest

from fastvlm.inference.doubled_digits import without_doubled_digits
from fastvlm.inference.page import ReadLine
from fastvlm.processing.text_lines import Box

DIGIT_PX, HEIGHT_PX = 8, 10


def line(text: str, written: str | None = None) -> ReadLine:
    """A number as it was read, as wide as it is written."""
    width = sum(DIGIT_PX / 2 if sign in ".," else DIGIT_PX for sign in written or text)
    return ReadLine(text, Box(0, 0, round(width), HEIGHT_PX), 0.9)


@pytest.mark.parametrize(
    ("read", "written", "expected"),
    [
        ("48.00", "48.0", "48.0"),
        ("33.77", "33.7", "33.7"),
        ("66333", "6633", "6633"),
        ("33.77", "33.77", "33.77"),
        ("48.0", "48.0", "48.0"),
        ("300", "300", "300"),
        ("66.11", "66.11", "66.11"),
        ("$12.00", "$12.0", "$12.00"),  # with nothing that has a $ to compare it with
        ("1,500", "1,50", "1,500"),
    ],
)
def test_a_digit_that_was_read_twice_is_left_out(read: str, written: str, expected: str) -> None:
    others = [line(text) for text in ("12.4", "80.19", "7.5", "346", "Bread")]
    assert [one.text for one in without_doubled_digits([*others, line(read, written)])] == [
        *(one.text for one in others),
        expected,
    ]


def test_a_few_numbers_say_nothing_of_their_width() -> None:
    few = [line("12.4"), line("48.00", "48.0")]
    assert without_doubled_digits(few) == few
