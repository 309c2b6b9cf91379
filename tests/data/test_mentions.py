"""Phrases that mean objects: found in texts with what they mean, and found in the generator's own questions."""

from __future__ import annotations

import random

import pytest

from fastvlm.data.synthetic import sample_scene
from fastvlm.data.synthetic.facts import Group, SceneFacts
from fastvlm.data.synthetic.mentions import Mention, find_mentions
from fastvlm.data.synthetic.questions import Phrasing, sample_questions
from fastvlm.data.synthetic.scene import Background, Scene, SceneObject
from fastvlm.data.synthetic.shapes import ShapeForm

WHITE = Background("white", (255, 255, 255), (255, 255, 255))


def item(shape: str, color: str, size_px: float, x: float, y: float) -> SceneObject:
    return SceneObject(shape, color, size_px, x, y, (0, 0, 0), ShapeForm(1.0, 0.0))


SCENE = Scene(
    256,
    256,
    WHITE,
    (
        item("star", "red", 20, 40, 40),
        item("star", "red", 90, 200, 60),
        item("circle", "red", 50, 100, 200),
        item("star", "blue", 50, 220, 220),
    ),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Is the leftmost red star above the blue one?",
            [("star", Group("red", "star"), "left"), ("one", Group("blue"), None)],
        ),
        ("how many medium-sized CIRCLES", [("CIRCLES", Group(None, "circle", "medium"), None)]),
        ("red or green?", [("red", Group("red"), None), ("green", Group("green"), None)]),
        ("Describe the picture.", []),
        ("the biggest object, crosses", [("object", Group(), "largest"), ("crosses", Group(None, "cross"), None)]),
        ("hundreds of starships", []),
        ("What shape is the red object? Is there one?", [("object", Group("red"), None)]),
        ("What kind of shape is the red star?", [("star", Group("red", "star"), None)]),
        ("the leftmost shape", [("shape", Group(), "left")]),
        ("Is it white on a red star?", [("white", Group("white"), None), ("star", Group("red", "star"), None)]),
    ],
)
def test_phrases_of_a_text(text: str, expected: list[tuple[str, Group, str | None]]) -> None:
    found = [
        (next(end for end, _, _ in expected if text[: mention.end].endswith(end)), mention.group, mention.extreme)
        for mention in find_mentions(text)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "candidates", "referents"),
    [
        ("the red star", [0, 1], [0, 1]),
        ("the small red star", [0], [0]),
        ("the largest star", [0, 1, 3], [1]),
        ("the leftmost object", [0, 1, 2, 3], [0]),
        ("the leftmost circle", [2], [2]),
        ("the green heart", [], []),
        ("the lowest star", [0, 1, 3], [3]),
        ("the lowest object", [0, 1, 2, 3], [3]),
    ],
)
def test_what_a_phrase_means(text: str, candidates: list[int], referents: list[int]) -> None:
    facts = SceneFacts(SCENE)
    (mention,) = find_mentions(text)
    assert mention.candidates(facts) == candidates
    assert mention.referents(facts) == referents


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Is the background white? Is it on a green background?", [("background", True), ("background", True)]),
        ("What colour is behind the objects?", [("behind", True), ("objects", False)]),
        ("Are the stars on a blue background?", [("stars", False), ("background", True)]),
    ],
)
def test_the_background_is_no_object(text: str, expected: list[tuple[str, bool]]) -> None:
    facts = SceneFacts(SCENE)
    found = list(find_mentions(text))
    assert [mention.is_background for mention in found] == [is_background for _, is_background in expected]
    for mention, (word, is_background) in zip(found, expected, strict=True):
        assert text[: mention.end].endswith(word)
        assert not (is_background and mention.candidates(facts))


@pytest.mark.parametrize(
    ("text", "end", "kinds", "number"),
    [
        ("How many different shapes are there?", "different shapes", "shape", 2),
        ("Count the kinds of shape in the scene.", "kinds of shape", "shape", 2),
        ("How many Different Colours of objects do you see?", "Different Colours of objects", "color", 2),
        ("Tell me how many kinds of color there are.", "kinds of color", "color", 2),
        ("Count every kind of object.", "kind of object", None, 4),
    ],
)
def test_kinds_are_counted_and_not_objects(text: str, end: str, kinds: str | None, number: int) -> None:
    facts = SceneFacts(SCENE)
    (mention,) = find_mentions(text)
    assert text[: mention.end].endswith(end)
    assert mention.kinds_of == kinds and mention.number(facts) == number
    assert mention.referents(facts) == [0, 1, 2, 3]


def test_a_superlative_that_people_would_dispute_means_nothing_certain() -> None:
    level = Scene(256, 256, WHITE, (item("star", "red", 40, 60, 100), item("star", "blue", 40, 200, 101)))
    assert Mention(0, Group(shape="star"), "above").referents(SceneFacts(level)) is None


@pytest.mark.parametrize("phrasing", ["train", "held_out"])
def test_questions_for_kinds_have_a_phrase_whose_number_is_the_answer(phrasing: Phrasing) -> None:
    """But for those of training where a slip of the keyboard is in the phrase."""
    found: list[bool] = []
    for seed in range(400):
        scene = sample_scene(random.Random(seed), width_px=256, height_px=256)
        for question in sample_questions(
            scene, random.Random(seed), num_questions=2, phrasing=phrasing, families=["count"]
        ):
            if question.intent == "count_kinds":
                mentions = [mention for mention in find_mentions(question.text) if mention.kinds_of]
                (named,) = find_mentions(question.subject)
                assert all(mention.kinds_of == named.kinds_of for mention in mentions)
                assert all(str(mention.number(SceneFacts(scene))) == question.answer for mention in mentions)
                found.append(len(mentions) == 1)
    assert len(found) > 20 and sum(found) >= (0.95 if phrasing == "train" else 1) * len(found)


def test_named_objects_of_generated_questions_are_found() -> None:
    """Colour and shape questions name one object: a phrase means it, and it has the answer's attribute."""
    checked = 0
    for seed in range(60):
        scene = sample_scene(random.Random(seed), width_px=256, height_px=256)
        facts = SceneFacts(scene)
        for question in sample_questions(
            scene, random.Random(seed), num_questions=4, phrasing="held_out", families=["color", "shape"]
        ):
            if question.intent not in ("color_of_shape", "shape_of_color"):
                continue
            meant = [mention.referents(facts) or [] for mention in find_mentions(question.text)]
            single = [scene.objects[members[0]] for members in meant if len(members) == 1]
            assert any(question.answer in (found.color, found.shape) for found in single), question.text
            checked += 1
    assert checked > 40
