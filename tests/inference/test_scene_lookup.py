"""Shapes of drawn scenes are counted as a question asks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

import fastvlm
from fastvlm.batches import UInt8Array
from fastvlm.inference.scene_lookup import asks_for_number_of_shapes, count_shapes


def scene() -> UInt8Array:
    """Nine red circles, two blue circles, a blue square and a green triangle."""
    image = Image.new("RGB", (320, 192), (235, 235, 235))
    draw = ImageDraw.Draw(image)
    for place in range(11):
        x, y = 20 + 28 * place, 40
        draw.ellipse((x - 11, y - 11, x + 11, y + 11), fill="red" if place < 9 else "blue")
    draw.rectangle((40, 100, 80, 140), fill="blue")
    draw.polygon([(200, 100), (230, 150), (170, 150)], fill="green")
    return np.asarray(image)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many red circles are there?", 9),
        ("How many circles are in the picture?", 11),
        ("Count the blue objects.", 3),
        ("How many things do you see?", 13),
        ("About this picture: how many different colours of objects are there?", 3),
        ("How many kinds of shapes are there?", 3),
        ("How many different blue shapes are there?", 2),
        ("How many different colours of circles are there?", 2),
        ("Stars: how many?", 0),
        ("What is the number of green triangles?", 1),
    ],
)
def test_what_a_question_names_is_counted(question: str, expected: int) -> None:
    assert asks_for_number_of_shapes(question)
    assert count_shapes(question, scene()) == expected


@pytest.mark.parametrize(
    "question",
    [
        "How many small circles are there?",
        "How many circles are left of the square?",
        "How many circles touch the square?",
        "How many items were bought?",
        "How many rows are there?",
        "How many people are there?",
        "Is there a red circle?",
        "What is the total of the bill?",
        "Are there more circles than squares?",
        "Count the red circles and the blue circles. Are there more red circles?",
        "How many red and blue circles are there?",
    ],
)
def test_other_questions_are_left_alone(question: str) -> None:
    assert not asks_for_number_of_shapes(question)
    assert count_shapes(question, scene()) is None


def test_the_assistant_counts_with_a_closer_look_and_guesses_without() -> None:
    question = "How many red circles are there?"
    answer = fastvlm.load().ask(question, images=scene())
    assert (answer.text, answer.is_unsure, answer.box) == ("9", False, None)
    first = fastvlm.load(closer_look=False).ask(question, images=scene())
    assert answer.usage == first.usage
    assert answer.timings.total_ms > 0
