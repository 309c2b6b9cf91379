"""Questions about drawn scenes are answered by the shapes that are there, and others are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import fastvlm
from fastvlm.batches import UInt8Array
from fastvlm.inference.reading import read_text
from fastvlm.inference.scene_lookup import asks_about_shapes, look_up_in_scene
from fastvlm.inference.settings import GenerationSettings
from fastvlm.inference.timings import Stopwatch
from fastvlm.messages import ImagePart, user
from fastvlm.processing import shapes
from fastvlm.processing.shapes import Drawing, find_drawing


def row_of_circles() -> UInt8Array:
    """Nine red circles, two blue circles, a blue square and a green triangle."""
    image = Image.new("RGB", (320, 192), (235, 235, 235))
    draw = ImageDraw.Draw(image)
    for place in range(11):
        x, y = 20 + 28 * place, 40
        draw.ellipse((x - 11, y - 11, x + 11, y + 11), fill="red" if place < 9 else "blue")
    draw.rectangle((40, 100, 80, 140), fill="blue")
    draw.polygon([(200, 100), (230, 150), (170, 150)], fill="green")
    return np.asarray(image)


def few_shapes() -> UInt8Array:
    """A large red circle at the top left, a small one in the middle, a medium-sized blue square at the bottom right."""
    image = Image.new("RGB", (300, 200), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 5, 80, 75), fill="red")
    draw.ellipse((140, 90, 160, 110), fill="red")
    draw.rectangle((240, 150, 280, 190), fill="blue")
    return np.asarray(image)


def looked_up(question: str, picture: UInt8Array) -> str | None:
    """The answer of the shapes of a scene."""
    drawing = find_drawing(picture)
    assert drawing is not None
    return look_up_in_scene(question, drawing)


def checked(question: str, picture: UInt8Array) -> str | None:
    """The answer to a question that is understood."""
    assert asks_about_shapes(question)
    return looked_up(question, picture)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many red circles are there?", "9"),
        ("How many circles are in the picture?", "11"),
        ("Count the blue objects.", "3"),
        ("How many things do you see?", "13"),
        ("About this picture: how many different colours of objects are there?", "3"),
        ("How many kinds of shapes are there?", "3"),
        ("How many different blue shapes are there?", "2"),
        ("How many different colours of circles are there?", "2"),
        ("Stars: how many?", "0"),
        ("What is the number of green triangles?", "1"),
        ("How many circles are red?", "9"),
        ("How many of the objects are blue?", "3"),
        ("How many of the objects are red circles?", "9"),
        ("How many circles are there in all?", "11"),
        ("If you count the blue objects, how many do you get?", "3"),
        ("There are exactly nine red circles.", "yes"),
        ("The number of circles is 12. Is that true?", "no"),
        ("Are there at least 4 blue objects?", "no"),
        ("You can see three blue objects or more.", "yes"),
        ("The picture shows at most ten circles: yes or no?", "no"),
        ("There is one triangle.", "yes"),
        ("There are not fewer than nine red circles, right?", "yes"),
        ("Are there more circles than squares?", "yes"),
        ("Are there fewer red circles than blue circles?", "no"),
        ("Are the blue circles outnumbered by the red circles?", "yes"),
        ("Count the red circles and the blue circles. Are there more red circles?", "yes"),
        ("Compared with red circles, are there more blue circles?", "no"),
        ("Are there as many squares as triangles?", "yes"),
        ("Which are more numerous, red circles or blue objects?", "red circles"),
        ("Are there fewer squares or fewer circles?", "squares"),
        ("Which colour is most common?", "red"),
        ("What is the most frequent shape?", "circle"),
        ("Are all circles red?", "no"),
        ("Is every square blue?", "yes"),
        ("Are all objects circles?", "no"),
        ("Describe the picture.", "nine red circles, two blue circles, a green triangle and a blue square"),
    ],
)
def test_numbers(question: str, expected: str) -> None:
    assert checked(question, row_of_circles()) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is there a red circle?", "yes"),
        ("Can you see a star?", "no"),
        ("There are no stars.", "yes"),
        ("Is there a large red circle?", "yes"),
        ("A large blue shape: is there one?", "no"),
        ("What colour is the square?", "blue"),
        ("What shape is the blue one?", "square"),
        ("Whta is the shpae of the blue object?", "square"),
        ("What color are the circles?", "red"),
        ("What colour is the leftmost object?", "red"),
        ("The square is drawn in which colour?", "blue"),
        ("The square is a blue one, right?", "yes"),
        ("Is the square red?", "no"),
        ("What colour is the heart?", "There is no heart."),
        ("Where is the green star?", "There is no green star."),
        ("How big is the medium-sized blue thing?", "medium"),
        ("Is the square small, medium or large?", "medium"),
        ("What is the largest object?", "a red circle"),
        ("Which object is the rightmost one?", "a blue square"),
        ("Where is the square?", "bottom right"),
        ("Where is the small circle?", "centre"),
        ("In the center of the image, what colour is the object?", "red"),
        ("What is at the top left?", "a red circle"),
        ("Is there a circle at the bottom right?", "no"),
        ("Is the thing in the middle a circle?", "yes"),
        ("Is the square to the left of the large circle?", "no"),
        ("Below the small circle is the square.", "yes"),
        ("Compared with the square, is the large circle above it?", "yes"),
        ("Where is the large circle relative to the square: left, right, above or below?", "left"),
        ("On which side of the square is the small circle?", "left"),
        ("Relative to the small circle, where is the square?", "right"),
        ("What is to the right of the small circle?", "a blue square"),
        ("Is the square larger than the small circle?", "yes"),
        ("Compared with the large circle, is the square smaller?", "yes"),
        ("Do the large circle and the small circle have the same colour?", "yes"),
        ("Do the square and the large circle have the same shape?", "no"),
        ("What colour is the background?", "white"),
        ("Is the background grey?", "no"),
        ("What do you see?", "two red circles and a blue square"),
        ("Is the square large?", "no"),
        ("Isn't there a square?", "yes"),
        ("The large circle isn't red.", "no"),
        ("Is there more than one circle?", "yes"),
        ("Do you see fewer than three objects?", "no"),
    ],
)
def test_attributes_places_and_comparisons(question: str, expected: str) -> None:
    assert checked(question, few_shapes()) == expected


def test_of_two_that_are_as_large_or_as_high_none_is_the_extreme() -> None:
    image = Image.new("RGB", (300, 200), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((40, 50, 80, 90), fill="red")
    draw.rectangle((200, 50, 240, 90), fill="blue")
    for question in ("Which object is the smallest?", "What is the topmost object?", "Is the largest object red?"):
        assert checked(question, np.asarray(image)) is None
    assert checked("What is the leftmost object?", np.asarray(image)) == "a red square"


def test_answers_are_spelled_as_their_question() -> None:
    picture = np.full((100, 100, 3), 128, dtype=np.uint8)
    assert checked("What color is the background?", picture) == "gray"
    assert checked("What colour is the background?", picture) == "grey"
    assert checked("What is in the picture?", picture) == "an empty picture"


@pytest.mark.parametrize(
    "question",
    [
        "How many circles touch the square?",
        "Сколько circles?",
        "How many circles & squares are there?",
        "How many circles are left of the square?",
        "How many red and blue circles are there?",
        "Are there more red than blue circles?",
        "Is there a red or blue circle?",
        "Are the circles red or blue?",
        "How many items were bought?",
        "How many rows are there?",
        "How many people are there?",
        "What is the total of the bill?",
        "Is there a dog?",
        "Is the red circle touching the wall?",
        "Is there a red car?",
        "What does the sign say?",
        "What is the highest value in the chart?",
        "Is the circle between the square and the triangle?",
        "Is there a box with two circles?",
        "Is only one circle red?",
        "Hello!",
        "",
        "What kind of document is this?",
    ],
)
def test_other_questions_are_left_alone(question: str) -> None:
    assert not asks_about_shapes(question)
    assert looked_up(question, row_of_circles()) is None


RIGHT_OR_NOT_AT_ALL_OF_FEW = [
    ("Is the square large?", "no"),
    ("Is the square small?", "no"),
    ("The square is small.", "no"),
    ("Is there a square that is large?", "no"),
    ("There is one circle that is small.", "yes"),
    ("How many circles are small?", "1"),
    ("How many objects are large?", "1"),
    ("Is there more than one square?", "no"),
    ("Is there more than one circle?", "yes"),
    ("Do you see more than three objects?", "no"),
    ("Do you see fewer than four objects?", "yes"),
    ("Is there a square on the left?", "no"),
    ("Is the square at the top?", "no"),
    ("Is the square on the left or on the right?", "right"),
    ("Is there a circle on the right?", "no"),
    ("How many circles are on the left?", None),
    ("How many objects are in the background?", None),
    ("Isn't the square blue?", "yes"),
    ("Isn't there a square?", "yes"),
    ("Isn’t there a square?", "yes"),
    ("Aren't the circles red?", "yes"),
    ("Is it false that there is a star?", "yes"),
    ("Is it wrong that the square is blue?", "no"),
    ("Is the background not white?", "no"),
    ("Is the square not larger than the small circle?", "no"),
    ("What colour is the thing that is not a circle?", "blue"),
    ("How many objects are not circles?", "1"),
    ("What is not at the bottom right?", None),
    ("Which object is not left of the small circle?", "a blue square"),
    ("Is there a shape that is not red?", "yes"),
    ("Is there something that is not red?", "yes"),
    ("Is there any object that is not a circle?", "yes"),
    ("There is a circle that is not large.", "yes"),
    ("Do the two circles have different colours?", "no"),
    ("Are there two objects of the same colour?", "yes"),
    ("Do two objects share a colour?", "yes"),
    ("Are there three objects in the middle?", "no"),
    ("How many objects except the square?", "2"),
    ("How many objects are larger than the small circle?", "2"),
    ("How many sides does the square have?", "4"),
    ("How many sides does a triangle have?", "3"),
    ("How many different sizes of objects are there?", "3"),
    ("How many red things are small?", "1"),
    ("How many other circles are there?", None),
    ("Which is larger, the square or the small circle?", "square"),
    ("Is the square larger or smaller than the small circle?", "larger"),
    ("Is the square left or right of the large circle?", "right"),
    ("Is the background white or black?", "white"),
    ("Is the most common shape a square?", "no"),
    ("Is the size of the square large?", "no"),
    ("Is the square the same colour as the background?", "no"),
    ("Is there an object in the background?", None),
    ("Is there a background?", "yes"),
    ("Do the objects form a triangle?", None),
    ("How many objects are on the white background?", "3"),
    ("List the red objects.", None),
    ("Tell me about the square.", None),
    ("Pick the largest object.", "a red circle"),
    ("Find the square.", None),
    ("Can you draw a star?", None),
    ("And the blue ones?", None),
    ("And stars?", None),
    ("Is it red?", None),
    ("How many are red?", "2"),
    ("Everything is red.", "no"),
    ("Is everything a circle?", "no"),
    ("Is there another square?", "no"),
    ("Are there many squares?", "no"),
    ("Do the objects stand in a circle?", "no"),
    ("Is there something in the square?", "no"),
    ("Is the object in the middle large?", "no"),
    ("What is the second largest object?", "a blue square"),
    ("What is the largest number?", None),
    ("What size is the object in the middle?", "small"),
    ("What is in the background?", None),
    ("What shape and colour is the square?", None),
    ("What colour is the square, and where is it?", None),
    ("Is the object in the middle blue or red?", "red"),
    ("Сколько circles?", None),
    ("有几个 star?", None),
    ("What do you see on the left?", None),
    ("Describe what is on the left.", None),
    ("Are the circles in the middle?", "no"),
    ("Are all the circles in the middle?", "no"),
    ("The things shown in the picture are squares. True or false?", "no"),
    ("Are the objects shown circles?", "no"),
    ("Is one of the circles small?", "yes"),
    ("Question 2: Is there a star?", "no"),
    ("Image 1: is there a circle?", "yes"),
    ("How many objects are in the circle?", "0"),
    ("Is there a circle in the middle and a square at the bottom right?", "yes"),
    ("Is the square exactly below the small circle?", "no"),
    ("Is the square just below the large circle?", "no"),
    ("Is there a right triangle?", "no"),
    ("Is there a ring at right?", "no"),
    ("Don't count the circles, how many objects are there?", "1"),
    ("Are there up to five circles?", "yes"),
    ("Can you find one circle?", "yes"),
    ("There aren't any stars, are there?", None),
    ("Why is the square blue?", None),
    ("Who has a star?", None),
    ("Is there a caption?", "no"),
    ("What does the caption say?", None),
    ("Write down good morning.", None),
    ("What colour and shape is the object in the middle?", None),
    ("Put a star in the middle.", None),
    ("Show me a star.", None),
    ("Give the square a colour.", None),
    ("What colour should the square be?", None),
    ("Can a star be drawn here?", None),
    ("Have a heart!", None),
    ("How many stars would you give this picture?", None),
    ("Do most objects share a colour?", "yes"),
    ("Is the small circle next to the bigger square?", None),
    ("Is there a place for a star?", None),
    ("Are all objects in a circle?", None),
    ("What shape do the circles form?", None),
]
RIGHT_OR_NOT_AT_ALL_OF_MANY = [
    ("Are there more than 5 circles?", "yes"),
    ("Are there fewer than 20 circles?", "yes"),
    ("Are there between 5 and 15 circles?", "yes"),
    ("Are there about 10 circles?", "yes"),
    ("Is the number of circles nine or eleven?", "eleven"),
    ("Is there a circle that is blue?", "yes"),
    ("Are any of the circles blue?", "yes"),
    ("Are some circles blue?", "yes"),
    ("Is a circle blue?", "yes"),
    ("Are there any circles that are red?", "yes"),
    ("Are none of the circles red?", "no"),
    ("Is no circle red?", "no"),
    ("How many circles are on the left?", None),
    ("How many circles are at the bottom?", "0"),
    ("There are not exactly 11 circles.", "no"),
    ("Are there not as many squares as triangles?", "no"),
    ("Are not all circles red?", "yes"),
    ("Are there three kinds of objects?", "yes"),
    ("Are there three different colours of objects?", "yes"),
    ("Are there three different shapes?", "yes"),
    ("Are there two kinds of blue objects?", "yes"),
    ("Are the objects of three colours?", "yes"),
    ("How many objects have the same colour as the square?", "3"),
    ("How many objects other than the square are there?", "12"),
    ("If I add two circles, how many circles are there?", "13"),
    ("How many circles are left?", None),
    ("How many circles do you need to get to 20?", "9"),
    ("Are the circles larger than the squares?", "no"),
    ("Are the squares larger than the triangles?", None),
    ("Are the circles above the squares?", "yes"),
    ("Which is larger, the square or the triangle?", "triangle"),
    ("Is the square larger than the triangle and blue?", "no"),
    ("Is red the most common colour?", "yes"),
    ("Is blue the most common colour?", "no"),
    ("Are the circles the same colour?", "no"),
    ("Are there more circles than any other shape?", "yes"),
    ("Count the objects in the middle.", "0"),
    ("What do you see at the top?", None),
    ("List the objects by size.", None),
    ("What colour is most of the picture?", "grey"),
    ("Which shape has the most sides?", None),
    ("Is one of the circles blue?", "yes"),
    ("The circles are not red.", "no"),
    ("The circles aren't blue.", "no"),
    ("How many kinds of circles are there?", "2"),
    ("How many circles are there and how many are red?", None),
    ("Are there more red circles than blue ones?", "yes"),
    ("Is the circle blue?", None),
    ("Is the square above the triangle?", None),
    ("Can you find two circles?", "yes"),
]


@pytest.mark.parametrize(("question", "right"), RIGHT_OR_NOT_AT_ALL_OF_FEW)
def test_what_people_ask_of_few_shapes_is_answered_rightly_or_not_at_all(question: str, right: str | None) -> None:
    assert looked_up(question, few_shapes()) in (right, None)


@pytest.mark.parametrize(("question", "right"), RIGHT_OR_NOT_AT_ALL_OF_MANY)
def test_what_people_ask_of_many_shapes_is_answered_rightly_or_not_at_all(question: str, right: str | None) -> None:
    assert looked_up(question, row_of_circles()) in (right, None)


@pytest.mark.parametrize(
    "question",
    [
        "What colour is the circle?",
        "Is the red circle above the square?",
        "Are there more blue squares or more green triangles?",
        "What shape is the blue object?",
    ],
)
def test_what_is_not_clear_stays_with_the_model(question: str) -> None:
    assert checked(question, row_of_circles()) is None


def test_the_assistant_tells_shapes_with_a_closer_look_and_guesses_without() -> None:
    question = "How many red circles are there?"
    answer = fastvlm.load().ask(question, images=row_of_circles())
    assert (answer.text, answer.is_unsure, answer.box) == ("9", False, None)
    first = fastvlm.load(closer_look=False).ask(question, images=row_of_circles())
    assert answer.usage == first.usage
    assert answer.timings.total_ms > 0


def test_yes_and_no_are_hardly_an_answer_to_how_many() -> None:
    looks = fastvlm.load().closer_look
    assert looks is not None
    sure = fastvlm.load(closer_look=False).ask("Is there a red circle?", images=row_of_circles())
    assert sure.text == "yes" and not sure.is_unsure
    for question, is_unsure in (("How many circles touch the square?", True), ("Do circles touch the square?", False)):
        messages = [user(ImagePart(row_of_circles()), question)]
        assert looks(messages, GenerationSettings(), sure, Stopwatch()).is_unsure is is_unsure


def test_shapes_and_empty_pages_have_no_text() -> None:
    assistant = fastvlm.load()
    for picture in (row_of_circles(), few_shapes(), np.full((300, 200, 3), 255, dtype=np.uint8)):
        read = read_text(assistant, picture, assistant.closer_look, max_new_tokens=32)
        assert (read.text, read.is_unsure, read.lines) == ("", False, ())
    sign = Image.new("RGB", (300, 120), "navy")
    ImageDraw.Draw(sign).text((20, 20), "Story", "white", ImageFont.load_default(64))
    assert read_text(assistant, np.asarray(sign), assistant.closer_look, max_new_tokens=32).text


def test_a_scene_is_searched_once_and_other_pictures_keep_their_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def count(picture: UInt8Array) -> Drawing | None:
        searched.append(picture.shape)
        return find_drawing(picture)

    monkeypatch.setattr(shapes, "find_drawing", count)
    assistant = fastvlm.load()
    scene = few_shapes()
    questions = ("Is there a star?", "How many circles?")
    assert [assistant.ask(question, images=scene).text for question in questions] == ["no", "2"]
    assert len(searched) == 1
    sign = Image.new("RGB", (300, 120), "navy")
    ImageDraw.Draw(sign).text((20, 20), "Story", "white", ImageFont.load_default(64))
    question = "What colour is the background?"
    assert assistant.ask(question, images=np.asarray(sign)).text == "blue"
    assert len(searched) == 2
